"""The examples in docstrings are true."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["account", "ids", "models"])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    found = doctest.testmod(import_module(f"spendmeter.values.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
