"""`spendmeter budget` and `alerts` on the real broker."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from spendmeter.cli.printing import clock
from spendmeter.client import MAX_UNACKNOWLEDGED
from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import Record, encode_alert, encode_signal
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.domain.window import window_of
from spendmeter.kafka.client import producer
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.values.account import account_name
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter, spendmeter_json

HASH = "ab" * 32
FILE = """
budgets:
  - {id: key-day, match: {key: "*"}, limit_usd: "0.001", period: day}
  - {id: research, match: {team: research}, limit_usd: 0.1, period: month, action: warn}
"""


def apply(text: str, *options: str) -> dict[str, object]:
    found: dict[str, object] = spendmeter_json("budget", "apply", "-", *options, stdin=text)
    return found


def in_force() -> dict[str, dict[str, object]]:
    listed = spendmeter_json("budget", "list")
    # Who signed it is said of what is in force, not of a change.
    return {budget["id"]: {k: v for k, v in budget.items() if k != "signed_by"} for budget in listed}


@pytest.mark.usefixtures("settings")
class TestBudget:
    """Commands are run outside the event loop, as a person runs them."""

    def test_a_file_is_applied_and_read_back(self) -> None:
        assert apply(FILE)["created"] == ["key-day", "research"]

        found = in_force()
        assert set(found) == {"key-day", "research"}
        assert found["key-day"]["limit_nanousd"] == 1_000_000
        assert found["key-day"]["limit_usd"] == "0.001"
        assert found["research"]["action"] == "warn"

    def test_applying_it_again_changes_nothing(self) -> None:
        apply(FILE)
        before = in_force()

        applied = apply(FILE)

        assert applied["unchanged"] == ["key-day", "research"]
        assert in_force() == before

    def test_a_dry_run_tells_the_change_and_makes_none(self) -> None:
        apply(FILE)
        before = in_force()

        planned = apply(
            FILE.replace("0.001", "0.002") + "  - {id: new, match: {}, limit_usd: 1, period: day}",
            "--dry-run",
        )

        assert planned == {
            "dry_run": True,
            "created": ["new"],
            "changed": ["key-day"],
            "removed": [],
            "unchanged": ["research"],
            "left": [],
            "differences": {"key-day": {"limit_usd": {"old": "0.001", "new": "0.002"}}},
        }
        assert in_force() == before

    def test_the_plan_is_shown_as_a_difference(self) -> None:
        apply(FILE)

        output = spendmeter(
            "budget",
            "apply",
            "-",
            "--dry-run",
            "--prune",
            stdin=FILE.replace("0.001", "0.002").split("  - {id: res")[0],
        )

        assert "~ changed    key-day  $0.002 per day for key=* (block)" in output
        assert "limit_usd: 0.001 → 0.002" in output
        assert "- removed    research  it was $0.1 per month" in output
        assert "this is a dry run" in output
        assert set(in_force()) == {"key-day", "research"}

    def test_what_the_file_no_longer_has_is_left_or_pruned(self) -> None:
        apply(FILE)
        less = FILE.split("  - {id: res")[0]

        assert apply(less)["left"] == ["research"]
        assert set(in_force()) == {"key-day", "research"}
        assert apply(less, "--prune")["removed"] == ["research"]
        assert set(in_force()) == {"key-day"}

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_to_prune_most_needs_a_yes_and_says_what_would_go(self, options: list[str]) -> None:
        apply(FILE + "  - {id: third, match: {}, limit_usd: 1, period: day}")
        less = FILE.split("  - {id: res")[0]

        for file, count in (("budgets: []", 3), (less, 2)):
            output = spendmeter("budget", "apply", "-", "--prune", *options, stdin=file, exit_code=2)

            assert f"--prune removes {count} of the 3 budgets in force" in output
            assert "research, third" in output
            assert "nothing was applied. Give --yes" in output
            assert set(in_force()) == {"key-day", "research", "third"}
        # To look costs nothing.
        spendmeter("budget", "apply", "-", "--prune", "--dry-run", stdin="budgets: []")
        assert len(in_force()) == 3

        assert apply(less, "--prune", "--yes")["removed"] == ["research", "third"]

    def test_budgets_made_elsewhere_do_not_count_among_those_that_stay(self) -> None:
        apply(
            FILE
            + "".join(f"  - {{id: 'key:{i}', match: {{}}, limit_usd: 1, period: day}}\n" for i in range(9))
        )

        assert "removes 2 of the 2" in spendmeter(
            "budget", "apply", "-", "--prune", stdin="budgets: []", exit_code=2
        )

    def test_thousands_are_applied_and_removed_as_they_are_written(self) -> None:
        """More than are on their way at once, so in several batches, in order."""
        ids = [f"team-{i}" for i in range(2 * MAX_UNACKNOWLEDGED + 1)]
        file = "budgets:\n" + "".join(
            f"- {{id: {i}, match: {{team: {i}}}, limit_usd: 1, period: day}}\n" for i in ids
        )

        assert apply(file)["created"] == ids
        assert set(in_force()) == set(ids)
        assert apply(file)["unchanged"] == ids
        assert sorted(apply("budgets: []", "--prune", "--yes")["removed"]) == sorted(ids)  # type: ignore[call-overload]
        assert in_force() == {}

    @pytest.mark.parametrize(
        ("replaces", "told"),
        [
            ("nobody", "-:5: replaces: there will be no budget 'nobody'"),
            ("vip2", "-:5: replaces goes round: vip → vip2"),
        ],
    )
    def test_whom_a_budget_replaces_has_to_be_there(self, replaces: str, told: str) -> None:
        apply(
            FILE + "  - {id: vip2, match: {key: a}, limit_usd: 1, period: day, replaces: vip}\n"
            "  - {id: vip, match: {key: a}, limit_usd: 1, period: day}"
        )
        wrong = FILE + f"  - {{id: vip, match: {{key: a}}, limit_usd: 1, period: day, replaces: {replaces}}}"

        output = spendmeter("budget", "apply", "-", stdin=wrong, exit_code=2)

        assert told in output
        assert "nothing was applied" in output

    def test_a_raise_a_pause_and_a_new_period_are_kept_by_a_later_apply(self) -> None:
        apply(FILE)
        spendmeter("budget", "raise", "key-day", "--usd", "0.5", "--for", "2h")
        spendmeter("budget", "pause", "key-day")

        assert apply(FILE)["unchanged"] == ["key-day", "research"]
        found = in_force()["key-day"]
        assert found["paused"] is True
        assert [r["amount_nanousd"] for r in found["raises"]] == [500_000_000]  # type: ignore[attr-defined]

        assert spendmeter_json("budget", "resume", "key-day")["paused"] is False
        changed = spendmeter_json(
            "budget", "set", "key-day", "--period", "week:sunday", "--timezone", "Asia/Tokyo"
        )
        assert (changed["period"], changed["timezone"], len(changed["raises"])) == (
            "week:sunday",
            "Asia/Tokyo",
            1,
        )

    def test_a_reset_can_name_an_earlier_moment_of_the_period(self) -> None:
        apply(FILE.replace("period: day", "period: lifetime"))

        at = "2026-01-01T00:00:00+01:00"
        assert (
            spendmeter_json("budget", "reset", "key-day", "--at", at)["reset_at"]
            == "2025-12-31T23:00:00.000000Z"
        )
        assert "is to come" in spendmeter(
            "budget", "reset", "key-day", "--at", "2999-01-01T00:00:00Z", exit_code=1
        )

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ([], "either --until or --for"),
            (["--for", "2x"], "write 30m, 2h, 3d or 1w"),
            (["--for", "0h"], "not between 1 and"),
            (["--until", "soon"], "is not a time"),
            (["--until", "2999-01-01T00:00:00Z", "--for", "1h"], "either --until or --for"),
        ],
    )
    def test_a_raise_that_does_not_say_when_it_ends_is_refused(self, options: list[str], told: str) -> None:
        assert told in spendmeter("budget", "raise", "key-day", "--usd", "1", *options, exit_code=2)

    def test_a_raise_that_has_ended_is_refused(self) -> None:
        apply(FILE)

        assert "has ended already" in spendmeter(
            "budget", "raise", "key-day", "--usd", "1", "--until", "2020-01-01T00:00:00Z", exit_code=1
        )

    def test_a_file_with_one_wrong_budget_applies_none(self) -> None:
        output = spendmeter("budget", "apply", "-", stdin=FILE.replace("0.1,", "-1,"), exit_code=2)

        assert "-:4: limit_usd: -1 USD is not above 0" in output
        assert "nothing was applied" in output
        assert in_force() == {}

    def test_a_limit_is_raised_to_the_nano_dollar(self) -> None:
        apply(FILE)

        raised = spendmeter_json("budget", "set", "key-day", "--limit-usd", "0.002000001")

        assert raised["limit_nanousd"] == 2_000_001
        assert in_force()["key-day"] == raised
        assert in_force()["key-day"]["revision"] == raised["revision"]

    def test_a_reset_begins_a_new_window_and_a_later_apply_keeps_it(self) -> None:
        apply(FILE)

        reset = spendmeter_json("budget", "reset", "key-day")
        apply(FILE.replace("0.001", "0.002"))

        assert reset["reset_at"] is not None
        assert in_force()["key-day"]["reset_at"] == reset["reset_at"]

    def test_a_removed_budget_is_gone(self) -> None:
        apply(FILE)

        spendmeter("budget", "remove", "key-day")

        assert set(in_force()) == {"research"}

    @pytest.mark.parametrize(
        "command",
        [
            ["show"],
            ["set", "--limit-usd", "1"],
            ["raise", "--usd", "1", "--for", "1h"],
            ["pause"],
            ["resume"],
            ["reset"],
            ["remove"],
        ],
    )
    def test_a_budget_that_is_not_there_is_told(self, command: list[str]) -> None:
        output = spendmeter("budget", command[0], "nobody", *command[1:], exit_code=1)

        assert "there is no budget 'nobody'" in output

    def test_a_budget_is_created_without_a_file(self) -> None:
        made = spendmeter_json(
            *("budget", "create", "red-week", "--match", "team=red", "--match", "key=*", "--limit-usd", "5"),
            *("--period", "week:sunday", "--timezone", "Asia/Tokyo", "--warn-at", "0.5", "--warn-at", "0.9"),
        )

        assert made["match"] == {"team": "red", "key": "*"}
        assert (made["warn_at"], made["action"], made["limit_usd"]) == ([0.5, 0.9], "block", "5")
        assert in_force()["red-week"] == made
        again = ("budget", "create", "red-week", "--everything", "--limit-usd", "1", "--period", "day")
        assert "there is a budget red-week already" in spendmeter(*again, exit_code=1)
        assert in_force()["red-week"] == made

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--period", "day"], "say whose spend it is"),
            (["--period", "day", "--everything", "--match", "team=red"], "say whose spend it is"),
            (["--period", "day", "--match", "tem=red"], "did you mean team?"),
            (["--period", "day", "--match", "team"], "write it as team=…"),
            (["--period", "day", "--match", "team=red", "--for", "team=blue"], "gives a dimension twice"),
            (["--period", "day", "--match", "key=sk-abc"], "budgets know its hash"),
            (["--period", "day", "--match", "team=r*"], "allows no pattern"),
            (["--period", "soon", "--everything"], "period"),
            (["--period", "P14D", "--everything"], "needs starts_at"),
            (["--period", "day", "--everything", "--warn-at", "2"], "between 0 and 1"),
        ],
    )
    def test_a_budget_that_cannot_be_is_refused_with_the_fix(self, options: list[str], said: str) -> None:
        assert said in spendmeter("budget", "create", "a", "--limit-usd", "1", *options, exit_code=2)

    def test_one_account_gets_a_limit_of_its_own_which_the_same_command_changes(self) -> None:
        apply(FILE)
        command = ("budget", "set", "key-day", "--for", f"key={HASH}", "--limit-usd")

        made = spendmeter_json(*command, "50")
        assert (made["match"], made["replaces"], made["limit_usd"]) == ({"key": HASH}, "key-day", "50")
        assert (made["period"], made["id"]) == ("day", f"key-day:{HASH[:8]}")
        assert spendmeter_json(*command, "60")["id"] == made["id"]
        found = in_force()
        assert set(found) == {"key-day", "research", made["id"]}
        assert (found["key-day"]["limit_usd"], found[made["id"]]["limit_usd"]) == ("0.001", "60")
        assert "has no accounts by team" in spendmeter(
            *("budget", "set", "key-day", "--for", "team=red", "--as-id", "--limit-usd", "1"), exit_code=1
        )
        assert "--for goes with --limit-usd" in spendmeter(
            *("budget", "set", "key-day", "--for", "team=red", "--period", "day"), exit_code=2
        )

    def test_an_account_is_found_by_its_name_and_what_is_not_one_is_named_with_its_like(
        self, named: None
    ) -> None:
        apply(FILE)
        command = ("budget", "set", "key-day", "--limit-usd", "50", "--for")

        made = spendmeter_json(*command, "key=laptop")
        assert (made["id"], made["match"]) == ("key-day:laptop", {"key": HASH})
        said = spendmeter(*command, "key=ci", exit_code=1)
        assert f"key=ci is 2 of them: {'c' * 64}, {'d' * 64}; give one of these ids" in said
        assert "did you mean laptop?" in spendmeter(*command, "key=lapto", exit_code=1)
        said = spendmeter(*command, "key=nobody", exit_code=1)
        assert "history has no key 'nobody'; it has ci, laptop" in said
        assert "give its id, and --as-id" in said
        created = ("budget", "create", "search", "--limit-usd", "1", "--period", "day", "--for")
        assert spendmeter_json(*created, "team=Search")["match"] == {"team": "t1"}
        assert set(in_force()) == {"key-day", "research", "key-day:laptop", "search"}

    @pytest.mark.parametrize("limit", ["0", "-1", "lots", "nan"])
    def test_a_limit_that_cannot_be_is_refused(self, limit: str) -> None:
        spendmeter("budget", "set", "key-day", "--limit-usd", limit, exit_code=2)


@pytest.fixture
def named(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history with a few names."""
    server = connection.client(
        ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database), database=None
    )
    migrate(server, database)
    keys = [(HASH, "laptop"), ("c" * 64, "ci"), ("d" * 64, "ci")]
    rows = [[uuid4(), "usage", datetime.now(UTC), key, alias, "t1", "Search"] for key, alias in keys]
    columns = ["event_id", "kind", "occurred_at", "key", "key_alias", "team", "team_alias"]
    server.insert("usage", rows, column_names=columns, database=database)
    server.close()
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)


def test_no_kafka_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", "127.0.0.1:1")

    output = spendmeter("budget", "list", exit_code=1)

    assert "nothing answers at 127.0.0.1:1" in output


def test_no_stack_is_told_with_the_command_that_starts_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPENDMETER_KAFKA_BOOTSTRAP", raising=False)

    output = spendmeter("budget", "list", "--dir", str(tmp_path), exit_code=1)

    assert f"spendmeter up --dir {tmp_path}" in output


def signal_of(
    budget: Budget, key: str, spent: int, at: datetime, forecast_exhausted_at: datetime | None = None
) -> Signal:
    window = window_of(budget, at)
    assert window is not None
    return Signal(
        budget_id=budget.id,
        account=account_name(budget.id, [("key", key)]),
        subject={"key": key},
        window_start=window.start,
        window_end=window.end,
        limit_nanousd=budget.limit_nanousd,
        spent_nanousd=NanoUsd(spent),
        state=State.WARNING,
        threshold=0.8,
        watermark={0: 7},
        revision=budget.revision,
        version=3,
        forecast_exhausted_at=forecast_exhausted_at,
        emitted_at=at,
    )


async def send(settings: Settings, topic: Topic, *records: Record) -> None:
    kafka = producer(settings)
    await kafka.start()
    for record in records:
        await kafka.send_and_wait(
            settings.topic(topic), key=record.key, value=record.value, headers=record.headers
        )
    await kafka.stop()


async def test_show_tells_what_each_account_spent_in_the_present_window(settings: Settings) -> None:
    now = datetime.now(UTC)
    budget = Budget(
        id="key-day", match={"key": "*"}, limit_nanousd=NanoUsd(1_000_000), period="day", updated_at=now
    )
    signals = [
        signal_of(budget, "a", 800_000, now, forecast_exhausted_at=now - timedelta(days=400)),
        signal_of(budget, "b", 900_001, now, forecast_exhausted_at=now + timedelta(days=400)),
        # Of the day before: this account has spent nothing yet.
        signal_of(budget, "c", 999_999, now - timedelta(days=1)),
    ]
    await send(settings, Topic.SIGNALS, *map(encode_signal, signals))
    shown = await _outside_the_loop("budget", "apply", "-", stdin=FILE) and await _outside_the_loop(
        "budget", "show", "key-day"
    )

    assert shown.index("key=b") < shown.index("key=a")
    assert "$0.000900001" in shown
    assert "90.0%" in shown
    assert "key=c" not in shown
    assert clock(now + timedelta(days=400)) in shown
    assert clock(now - timedelta(days=400)) not in shown, "a forecast that did not come true"


async def test_alerts_are_told_once_however_often_they_were_sent(settings: Settings) -> None:
    now = datetime.now(UTC)
    one, other = (
        Alert(
            alert_id=alert_id("key-day|key=a", now, AlertKind.THRESHOLD, fraction),
            kind=AlertKind.THRESHOLD,
            message=f"at {fraction}",
            emitted_at=now,
        )
        for fraction in ("0.5", "0.8")
    )
    broken = Record(b"", b"{", [])
    await send(settings, Topic.ALERTS, encode_alert(one), broken, encode_alert(one), encode_alert(other))

    shown = await _outside_the_loop("alerts")

    assert shown.count("at 0.5") == 1
    assert shown.count("at 0.8") == 1


async def _outside_the_loop(*arguments: str, stdin: str | None = None) -> str:
    return await asyncio.to_thread(spendmeter, *arguments, stdin=stdin)
