"""Data that is shown: everything readable stays, nothing acts."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.cli.printing import columns
from spendmeter.runtime.logs import _VisibleFormatter
from spendmeter.visible import one_line, visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [/x] :key: ünïcode 日本 💥", "plain [/x] :key: ünïcode 日本 💥"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\u202eabc\u200b", r"\u202eabc\u200b"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\udcff"),
        ("10\u00a0000\u3000", "10\u00a0000\u3000"),
    ],
)
def test_what_is_seen_stays_and_what_acts_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_json_says_the_same_as_before(text: str) -> None:
    written = visible_json(json.dumps({"a": [text]}, indent=2, ensure_ascii=False))

    assert json.loads(written) == {"a": [text]}
    assert visible(written, keep="\n") == written


def test_words_of_another_program_are_one_line() -> None:
    assert one_line(" a\n\n  b\x1b ") == r"a b\x1b"


def test_a_log_line_is_one_line_whatever_the_data() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "seen %s", ("a\n2026 ERROR forged\x1b[2J",), None)

    assert _VisibleFormatter("%(message)s").format(record) == r"seen a\n2026 ERROR forged\x1b[2J"


@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=30)] * 3), max_size=5),
    st.integers(8, 120),
)
def test_columns_keep_their_width_and_all_that_stands_in_them(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    from rich.cells import cell_len

    lines = list(columns(("a", "b", "c"), rows, right=("b",), width=max(width, 10)))

    assert all(cell_len(line) <= max(width, 10) for line in lines)
    everything = "".join("".join(lines).split())
    for row in rows:
        for cell in row:
            assert set("".join(visible(cell).split())) <= set(everything)
