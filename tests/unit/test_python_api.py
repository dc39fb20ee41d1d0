"""docs/reference/python.md is what the code promises, and each of its names has a docstring."""

from importlib import import_module

import pytest

from tests.pages import part
from tests.python_api import MODULES, PAGE, TARGET, public, text


def test_the_page_is_the_codes() -> None:
    """If not: `make python-api`, and think of who imports what is gone."""
    assert part(PAGE.read_text(encoding="utf-8"), TARGET) == text()


@pytest.mark.parametrize("name", MODULES)
def test_each_public_name_says_what_it_is(name: str) -> None:
    module = import_module(name)
    found = dict(public(module))

    assert found
    assert [of for of, one in found.items() if not getattr(one, "__doc__", None)] == []
