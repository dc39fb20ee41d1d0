"""docs/reference/cli.md is what the commands say of themselves; docs/reference/api.md, what the API does."""

from spendmeter.cli.main import main
from tests import api_reference, cli_reference
from tests.pages import part


def test_the_page_of_commands_is_the_codes() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")

    assert part(page, cli_reference.TARGET) == cli_reference.text(), "`make cli-reference` writes it anew"


def test_each_command_has_a_section() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")
    names = [name for name, _ in cli_reference.commands(main, "spendmeter")]

    assert len(names) > 50
    assert [name for name in names[1:] if f"# `{name}`\n" not in page] == []


def test_the_page_of_the_api_is_the_codes() -> None:
    page = api_reference.PAGE.read_text(encoding="utf-8")

    assert part(page, api_reference.TARGET) == api_reference.text(), "`make openapi` writes it anew"
