"""docs/budgets.md: every example is a budget that refuses at its limit and not before."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from spendmeter.budgets.file import budget_file_schema, read_budgets
from spendmeter.cli.main import main
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.matching import Account, BudgetBook, Subject
from spendmeter_gateway.admission.decide import ADMIT, DecisionContext, Denied, decide
from spendmeter_gateway.model import Policy
from spendmeter_gateway.spend.tracker import SpendTracker
from tests.builders import NOON

PAGE = (Path(__file__).parents[2] / "docs/budgets.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
VIP = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"
POLICY = Policy(on_stale="allow", stale_after_seconds=30.0, ack_wait_seconds=0.3)
AT = DecisionContext(NOON, 0.0, budgets_are_read=True, views_are_current=True)

# Who falls under each example, into which accounts; and who does not.
WHO: dict[str, tuple[Subject, list[str], Subject | None]] = {
    "everything": (Subject(key="k"), ["everything|"], None),
    "key": (Subject(key=VIP), [f"key-day-vip|key={VIP}"], Subject()),
    "several windows": (
        Subject(team="red"),
        ["team-red-hour|team=red", "team-red-month|team=red"],
        Subject(team="blue"),
    ),
    "user": (Subject(user="ann", team="red"), ["user-month|user=ann"], Subject(team="red")),
    "team": (Subject(team="red"), ["team-month|team=red"], Subject(user="ann")),
    "member": (
        Subject(team="red", user="ann"),
        ["member-week|team=red&user=ann"],
        Subject(team="blue", user="ann"),
    ),
    "organization": (Subject(organization="o"), ["organization-year|organization=o"], Subject(team="o")),
    "project": (Subject(project="apollo"), ["project-total|project=apollo"], Subject(project="gemini")),
    "end user": (Subject(end_user="c"), ["customer-day|end_user=c"], Subject(user="c")),
    "tag": (Subject(tags=("a", "b")), ["tag-month|tag=a", "tag-month|tag=b"], Subject()),
    "models by a glob": (
        Subject(model_group="gpt-4o-mini"),
        ["gpt-4-month|model_group=gpt-4%2A"],
        Subject(model_group="o1"),
    ),
    "model of a key": (
        Subject(key="k", model_group="m"),
        ["key-model-day|key=k&model_group=m"],
        Subject(key="k"),
    ),
    "provider": (Subject(provider="openai"), ["openai-day|provider=openai"], Subject(provider="azure")),
    "session": (Subject(session="s"), ["session-total|session=s"], Subject()),
}


def book_of(example: str) -> BudgetBook:
    return BudgetBook(read_budgets(EXAMPLES[example], example, NOON))


def decided(book: BudgetBook, subject: Subject, spent: dict[str, int]) -> Any:
    """What is decided when the accounts have spent so much."""
    spend = SpendTracker()
    for account in book.accounts_of(subject):
        spend.apply(_signal(book, account, spent.get(account.name, 0)), NOON)
    return decide(book, book.accounts_of(subject), spend, AT, POLICY)


def _signal(book: BudgetBook, account: Account, spent: int) -> Signal:
    window = book.window_of(account.budget, NOON)
    assert window is not None
    return Signal.model_validate(
        {
            "budget_id": account.budget.id,
            "account": account.name,
            "subject": dict(account.subject),
            "window_start": window.start,
            "window_end": window.end,
            "limit_nanousd": account.budget.limit_nanousd,
            "spent_nanousd": spent,
            "state": State.OK,
            "watermark": {0: 1},
            "revision": 1,
            "version": 1,
            "emitted_at": NOON,
        }
    )


def test_every_example_has_somebody_who_falls_under_it() -> None:
    assert set(EXAMPLES) == set(WHO)


@pytest.mark.parametrize("example", WHO)
def test_an_example_counts_whom_it_says_and_nobody_else(example: str) -> None:
    subject, accounts, other = WHO[example]
    book = book_of(example)

    assert sorted(account.name for account in book.accounts_of(subject)) == accounts
    assert other is None or book.accounts_of(other) == ()


@pytest.mark.parametrize("example", WHO)
def test_each_account_of_an_example_refuses_at_its_limit_and_not_before(example: str) -> None:
    subject, accounts, _ = WHO[example]
    book = book_of(example)
    for account in book.accounts_of(subject):
        limit = account.budget.limit_nanousd

        assert decided(book, subject, {account.name: limit - 1}) is ADMIT
        refusal = decided(book, subject, {account.name: limit})
        assert isinstance(refusal, Denied)
        assert refusal.account is not None
        assert refusal.account.name == account.name
    assert accounts


@pytest.mark.parametrize("example", WHO)
def test_an_editor_finds_nothing_wrong_with_an_example(example: str) -> None:
    validator = import_module("jsonschema").Draft202012Validator

    errors = validator(budget_file_schema()).iter_errors(yaml.safe_load(EXAMPLES[example]))
    assert [json.dumps(error.message) for error in errors] == []


def test_every_command_on_the_page_is_there() -> None:
    budget = main.get_command(click.Context(main), "budget")
    named = set(re.findall(r"spendmeter budget (\w+)", PAGE))

    assert named
    assert named <= set(getattr(budget, "commands", {}))


def test_every_link_on_the_page_leads_somewhere() -> None:
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}

    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
