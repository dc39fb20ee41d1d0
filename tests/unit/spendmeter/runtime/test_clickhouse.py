"""The ClickHouse client is ready for its first insert at once."""

import subprocess
import sys

INSERT = """
import sys
from spendmeter.runtime import clickhouse
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.insert import InsertContext
from clickhouse_connect.driver.transform import NativeTransform

context = InsertContext("t", ["a"], [get_from_name("UInt64")], [[1, 2]], column_oriented=True)
assert b"".join(NativeTransform.build_insert(context))
print([name for name in ("pandas", "numpy") if name in sys.modules])
"""


def test_an_insert_imports_no_data_frames() -> None:
    done = subprocess.run([sys.executable, "-c", INSERT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
