"""What runs only with `make versions`, and why the rest of the tests leave it out."""

import os

import pytest

_IS_WHOLE = os.environ.get("SPENDMETER_VERSIONS") == "all"

only_in_a_whole_run = pytest.mark.skipif(
    not _IS_WHOLE, reason="other releases of Kafka and ClickHouse take minutes: make versions"
)
"""Marks a test that needs other releases than the rest of the tests run on."""
