"""The watcher on a real broker and a real engine: what is said once, again, and after a crash."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from spendmeter.contract.alert import Alert
from spendmeter.runtime.clickhouse import Client
from spendmeter_sinks.watch import run_log
from spendmeter_sinks.watch.check import CheckFailed
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.watcher import FIRST_AFTER, Watcher
from tests.integration.watch.conftest import NOW, Scripted, alerts_about, found
from tests.patience import WITHIN_SECONDS


async def test_what_is_still_so_is_published_once_and_what_is_new_with_it(
    settings: WatchSettings, history: Client
) -> None:
    check = Scripted("grows", lambda now: [found(f"growth {n}", now) for n in range(check.runs)])
    watcher = Watcher(settings, [check], now=lambda: NOW)

    said = [await watcher.run_now(check) for _ in range(3)]

    is_new = [[one.is_new for one in some or ()] for some in said]
    assert is_new == [[True], [False, True], [False, False, True]]
    published = await alerts_about(settings, "growth")
    assert [one.message for one in published] == [f"something of growth {n}" for n in range(3)]


async def test_killed_before_the_run_is_remembered_it_says_the_same_under_the_same_id(
    settings: WatchSettings, history: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Scripted("killed", lambda now: [found("crash", now)])
    with monkeypatch.context() as patched:
        patched.setattr(run_log, "note_run", lambda *_: (_ for _ in ()).throw(SystemError("killed")))
        assert await Watcher(settings, [check], now=lambda: NOW).run_now(check) is None
    assert run_log.last_run(settings, "killed") is None

    later = NOW + timedelta(hours=3)
    await Watcher(settings, [check], now=lambda: later).run_now(check)

    first, second = await alerts_about(settings, "crash")
    assert first.alert_id == second.alert_id
    assert (first.emitted_at, second.emitted_at) == (NOW, later)
    assert run_log.last_run(settings, "killed") == later


async def test_what_history_says_was_published_is_not_published_by_another_watcher(
    settings: WatchSettings, history: Client
) -> None:
    check = Scripted("known", lambda now: [found("known 1", now), found("known 2", now)])
    history.insert("alerts", [[str(found("known 1", NOW).alert_id)]], column_names=["alert_id"])

    await Watcher(settings, [check], now=lambda: NOW).run_now(check)

    assert [one.message for one in await alerts_about(settings, "known")] == ["something of known 2"]


async def test_a_check_that_fails_is_tried_again_and_stops_no_other(
    settings: WatchSettings, history: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spendmeter_sinks.watch.watcher.RETRY_FIRST", timedelta(milliseconds=20))
    began, stop = datetime.now(NOW.tzinfo), asyncio.Event()

    def fail(now: datetime) -> Sequence[Alert]:
        if ill.runs < 3:
            raise CheckFailed("not now") if ill.runs == 1 else ZeroDivisionError
        return [found("ill", now)]

    ill, well = Scripted("ill", fail), Scripted("well", lambda now: [found("well", now)])
    history.insert(
        "watch_runs",
        [[name, began - timedelta(hours=2), 0, 0] for name in ("ill", "well")],
        column_names=["name", "began_at", "duration_ms", "alerts"],
    )
    watching = asyncio.create_task(Watcher(settings, [ill, well]).run(stop))
    async with asyncio.timeout(WITHIN_SECONDS):
        for check in (ill, well):
            last = None
            while last is None or last < began:
                await asyncio.sleep(0.05)
                last = await asyncio.to_thread(run_log.last_run, settings, check.name)
    stop.set()
    await watching

    assert len(await alerts_about(settings, "ill")) == len(await alerts_about(settings, "well")) == 1
    # Done, both are due in an hour.
    assert (ill.runs, well.runs) == (3, 1)


async def test_a_check_is_due_by_its_last_run_whoever_ran_it(
    settings: WatchSettings, history: Client
) -> None:
    clock = [NOW]
    check = Scripted("due", lambda now: [])
    one, other = (Watcher(settings, [check], now=lambda: clock[0]) for _ in range(2))

    assert await one._run_if_due(check) == NOW + FIRST_AFTER
    clock[0] += FIRST_AFTER
    assert await one._run_if_due(check) == clock[0] + check.every
    assert await other._run_if_due(check) == clock[0] + check.every
    assert check.runs == 1
    clock[0] += check.every
    assert await other._run_if_due(check) == clock[0] + check.every
    assert await one._run_if_due(check) == clock[0] + check.every
    assert check.runs == 2


async def test_a_run_that_a_wrong_clock_noted_stops_no_check(
    settings: WatchSettings, history: Client
) -> None:
    clock = [NOW]
    check = Scripted("ahead", lambda now: [])
    history.insert(
        "watch_runs",
        [["ahead", NOW + timedelta(days=900), 0, 0]],
        column_names=["name", "began_at", "duration_ms", "alerts"],
    )
    watcher = Watcher(settings, [check], now=lambda: clock[0])

    assert await watcher._run_if_due(check) == NOW + FIRST_AFTER
    clock[0] += FIRST_AFTER
    for _ in range(2):
        assert await watcher._run_if_due(check) == NOW + FIRST_AFTER + check.every
    assert check.runs == 1
