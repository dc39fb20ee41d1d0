"""Budget files: read exactly, or every problem at once with its line and its fix."""

from datetime import UTC, datetime

import pytest

from spendmeter.budgets.file import InvalidBudgetFile, read_budget_file, read_budgets
from spendmeter.contract.budget import Action, Enforcement, Raise
from spendmeter.contract.money import NanoUsd
from tests.builders import NOON

WHOLE = """
budgets:
  - id: key-day
    match: {key: "*"}
    limit_usd: "0.001"
    period: day
    warn_at: [0.5, 0.8]
    action: block
  - id: research
    match: {team: research, model: "*"}
    limit_usd: 0.1
    period: P14D
    starts_at: 2026-11-01T00:00:00+01:00
    timezone: Europe/Berlin
    action: warn
    enforcement: strict
    unpriced: "0.01"
    raises: [{amount_usd: 5, until: 2026-12-01T00:00:00Z}]
    replaces: key-day
"""


def one(**changed: str) -> str:
    """A file of one budget, with fields changed (None leaves one out)."""
    fields = {"id": "a", "match": '{key: "*"}', "limit_usd": "1", "period": "day"} | changed
    return "budgets:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in fields.items())


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(InvalidBudgetFile) as caught:
        read_budgets(text, "b.yaml", NOON)
    return [(problem.line, problem.message) for problem in caught.value.problems]


def test_every_field_is_read() -> None:
    key_day, research = read_budgets(WHOLE, "b.yaml", NOON)

    assert key_day.match == {"key": "*"}
    assert key_day.limit_nanousd == 1_000_000
    assert key_day.warn_at == (0.5, 0.8)
    assert key_day.updated_at == NOON
    assert research.match == {"team": "research", "model": "*"}
    assert research.starts_at == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert research.timezone == "Europe/Berlin"
    assert (research.action, research.enforcement) == (Action.WARN, Enforcement.STRICT)
    assert research.unpriced == "0.01"
    assert research.raises == (
        Raise(amount_nanousd=NanoUsd(5_000_000_000), until=datetime(2026, 12, 1, tzinfo=UTC)),
    )
    assert research.replaces == "key-day"


@pytest.mark.parametrize(
    ("written", "nanousd"),
    [
        ("0.1", 100_000_000),
        ('"0.1"', 100_000_000),
        ("1e-3", 1_000_000),
        ("0.000000001", 1),
        # A double cannot tell these two apart.
        ("90071992.547409921", 90_071_992_547_409_921),
        ("90071992.547409922", 90_071_992_547_409_922),
        ("999999999.999999999", 10**18 - 1),
    ],
)
def test_money_is_read_as_the_text_that_stands_there(written: str, nanousd: int) -> None:
    (budget,) = read_budgets(one(limit_usd=written), "b.yaml", NOON)

    assert budget.limit_nanousd == nanousd


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("0.0000000001", "finer than a nano-dollar"),
        ("0.0010000001", "finer than a nano-dollar"),
        ("0", "not above 0"),
        ("-1", "not above 0"),
        ("1000000000", "beyond the largest amount"),
        ("lots", "not a decimal number"),
        (".nan", "not a"),
        ("[1]", "single value"),
    ],
)
def test_money_that_cannot_be_kept_is_refused(written: str, told: str) -> None:
    ((line, message),) = problems(one(limit_usd=written))

    assert line == 4
    assert message.startswith("limit_usd")
    assert told in message


@pytest.mark.parametrize(
    ("changed", "line", "told"),
    [
        ({"match": '{kye: "*"}'}, 3, "did you mean key?"),
        ({"match": '{key: ""}'}, 3, 'give a value, or "*"'),
        ({"match": "[key]"}, 3, "match is a mapping"),
        ({"perid": "day"}, 6, "did you mean period?"),
        ({"period": "fortnight"}, 5, "ISO 8601 duration"),
        ({"period": "P3D"}, 5, "needs starts_at"),
        ({"period": "month:32"}, 5, "days 1 to 31"),
        ({"match": "{team: eng-*}"}, 3, "match.team allows no pattern, only model and model_group do"),
        ({"match": '{model: "**"}'}, 3, "fits everything"),
        ({"paused": "maybe"}, 6, "there is true, false"),
        ({"replaces": "a"}, 6, "replaces names the budget itself"),
        (
            {"raises": "[{amount_usd: 999999999.999999999, until: 2026-12-01T00:00:00Z}]"},
            6,
            "beyond the largest amount",
        ),
        ({"action": "blok"}, 6, "did you mean block?"),
        ({"enforcement": "hard"}, 6, "there is settled, strict"),
        ({"warn_at": "[80]"}, 6, "0.8 for 80 %"),
        ({"warn_at": "[often]"}, 6, "no fraction such as 0.8"),
        ({"warn_at": "0.8"}, 6, "warn_at is a list"),
        ({"timezone": "Mars/Base"}, 6, "IANA time zone"),
        ({"unpriced": "maybe"}, 6, "allow, block, or USD per request"),
        ({"starts_at": "2026-01-01"}, 6, "has no UTC offset"),
        ({"starts_at": "soon"}, 6, "write it as 2026-11-22T10:00:00Z"),
        ({"raises": "[{amount_usd: 1}]"}, 6, "amount_usd, and until"),
        ({"id": '"a b"'}, 2, "letters, digits and"),
    ],
)
def test_a_problem_is_told_with_its_line_and_its_fix(changed: dict[str, str], line: int, told: str) -> None:
    ((found_line, message),) = problems(one(**changed))

    assert found_line == line
    assert told in message


def test_a_key_in_clear_text_is_refused_and_its_hash_given() -> None:
    ((_, message),) = problems(one(match="{key: sk-1234}"))

    assert "sk-1234" not in message
    assert message.endswith("88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b")


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    text = (
        "budgets:\n  - id: a\n    limit_usd: 0\n  - id: b\n    match: {}\n    limit_usd: 1\n    perod: day\n"
    )

    found = problems(text)

    assert [line for line, _ in found] == [2, 2, 3, 4, 7]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "begin with `budgets:`"),
        ("budgets: 3", 1, "budgets is a list"),
        ("- a", 1, "the file is a mapping"),
        ("budgets:\n  - [a", 2, "no YAML"),
        ("budget:\n  - id: a", 1, "did you mean budgets?"),
        ("budgets:\n  - 17", 2, "a budget is a mapping"),
        ("a: 1\x00", 1, "no YAML"),
        (one() + "\n    period: week", 6, "period is given twice"),
        (one() + "\n" + one().partition("\n")[2], 6, "id 'a' is in line 2 already"),
    ],
)
def test_what_is_no_budget_file_is_told_so(text: str, line: int, told: str) -> None:
    found = problems(text)

    assert found[0][0] == line
    assert told in found[0][1]


MERGED = """
x-day: &day
  period: day
  warn_at: [0.5]
x-month: &month {<<: *day, period: month, action: warn}
budgets:
  - {<<: *day, id: a, match: {}, limit_usd: 1}
  - <<: [*month, *day]
    id: b
    match: &red {team: red}
    limit_usd: 2
  - {<<: *day, id: c, match: *red, limit_usd: 3, period: week}
"""


def test_merge_keys_anchors_and_fields_of_ones_own_are_read_as_everywhere() -> None:
    a, b, c = read_budgets(MERGED, "b.yaml", NOON)

    assert (a.period, a.warn_at, a.action) == ("day", (0.5,), Action.BLOCK)
    assert (b.period, b.warn_at, b.action, b.match) == ("month", (0.5,), Action.WARN, {"team": "red"})
    assert (c.period, c.match) == ("week", {"team": "red"})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("    limit_usd: 9\n    limit_usd: 10", "limit_usd is given twice"),
        ("  - {<<: *day, id: d, match: {}, limit_usd: 1, x-note: why}", "has no field 'x-note'"),
        ("  - {<<: 3, id: d, match: {}, limit_usd: 1, period: day}", "<< merges a mapping"),
        ("  - {<<: [*day, 3], id: d, match: {}, limit_usd: 1}", "<< merges a mapping"),
        ('  - {"<<": *day, id: d, match: {}, limit_usd: 1, period: day}', "has no field '<<'"),
        ("  - &d {<<: *d, id: d, match: {}, limit_usd: 1, period: day}", "into itself"),
        ("  - {[a]: 1, id: d, match: {}, limit_usd: 1, period: day}", "a field's name is one word"),
        ("budget: 3", "did you mean budgets?"),
    ],
)
def test_what_is_merged_wrongly_is_told_with_its_line(more: str, told: str) -> None:
    file = MERGED + ("  - <<: *day\n    id: d\n    match: {}\n" if more.startswith("    ") else "") + more

    ((line, message),) = problems(file)

    assert line == len(file.splitlines())
    assert told in message


def laughs(levels: int, width: int) -> str:
    lines = [f"x-{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}], k{i}: v}}" for i in range(1, levels)]
    return "\n".join(["x-0: &a0 {k: v}", *lines, f"budgets: [*a{levels - 1}]"])


@pytest.mark.parametrize(
    ("bomb", "told"),
    [
        (laughs(30, 9), "a budget has no field 'k'"),
        (laughs(3_000, 1), "<< merges through more than 32 mappings"),
        ("[" * 100_000, "more than 32 levels deep"),
        ("a: {" * 10_000, "more than 32 levels deep"),
        ("- " * 10_000, "more than 32 levels deep"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nbudgets: [*b, *b]", "a budget is a mapping"),
        ("x: &x [*x]\nbudgets: *x", "the file has no field 'x'"),
        (
            "x-a: &a {"
            + ", ".join(f"k{i}: v" for i in range(2_000))
            + "}\nbudgets:\n"
            + "  - {<<: *a}\n" * 1_000,
            "merges come to more than 1,000,000 fields",
        ),
    ],
)
def test_a_file_that_would_grow_without_end_is_refused(bomb: str, told: str) -> None:
    assert any(told in message for _, message in problems(bomb))


def test_of_very_many_problems_the_first_are_told() -> None:
    with pytest.raises(InvalidBudgetFile) as caught:
        read_budgets("budgets: 3\n" * 5_000, "b.yaml", NOON)

    lines = str(caught.value).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "and 4,900 more problems"


def test_a_problem_quotes_data_without_obeying_it() -> None:
    with pytest.raises(InvalidBudgetFile) as caught:
        read_budgets(one(period=r'"\e[31m\u202e"'), "b\x1b.yaml", NOON)

    assert str(caught.value).isprintable()


def test_what_is_wrong_with_a_field_in_the_end_is_told_where_it_stands() -> None:
    file = read_budget_file(
        one(replaces="b") + "\n  - {id: c, match: {}, limit_usd: 1, period: day}", "b", NOON
    )

    told = file.invalid({"a": "no such", "c": "nor this"}, "replaces")

    assert told.problems == [(6, "no such"), (7, "nor this")]


def test_a_budget_can_be_paused_and_a_glob_given() -> None:
    (budget,) = read_budgets(one(paused="true", match='{model: "gpt-4*"}'), "b.yaml", NOON)

    assert (budget.paused, budget.match) == (True, {"model": "gpt-4*"})


def test_an_empty_value_counts_as_left_out() -> None:
    (budget,) = read_budgets(one(starts_at=""), "b.yaml", NOON)

    assert budget.starts_at is None


def test_the_message_names_the_file() -> None:
    with pytest.raises(InvalidBudgetFile, match=r"^team\.yaml:4: limit_usd"):
        read_budgets(one(limit_usd="0"), "team.yaml", NOON)
