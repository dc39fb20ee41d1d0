"""A budget that changes while it runs: what is told when a raise ends, and after a reset."""

from datetime import UTC, datetime, timedelta
from typing import Any

from spendmeter.contract.money import from_usd
from spendmeter.contract.topics import Topic
from tests.builders import budget, usage

RAISED_FOR = timedelta(seconds=4)


async def test_a_raise_ends_by_itself_and_a_reset_tells_the_recovery(stream: Any, workers: Any) -> None:
    await stream.client.apply([budget(match={"model": "gpt-4*"}, warn_at=())])
    workers().wait_ready()
    now = datetime.now(UTC)
    await stream.send([usage(seq, 100_000, occurred_at=now, started_at=now) for seq in range(1, 11)])
    told = ["exceeded"]
    await stream.until(Topic.ALERTS, lambda found: _kinds(found) == told)

    until = datetime.now(UTC) + RAISED_FOR
    await stream.client.raise_limit("per-key", from_usd("1"), until)

    # Nobody spends or changes anything meanwhile.
    told += ["recovered", "exceeded"]
    alerts = await stream.until(Topic.ALERTS, lambda found: _kinds(found) == told)
    assert alerts[-1].emitted_at >= until
    assert [a.signal.limit_nanousd for a in alerts[1:]] == [from_usd("1.001"), from_usd("0.001")]
    signals = await stream.until(Topic.SIGNALS, lambda found: found[-1].emitted_at >= until)
    assert (signals[-1].account, signals[-1].limit_nanousd) == ("per-key|model=gpt-4%2A", from_usd("0.001"))

    await stream.client.reset("per-key")

    alerts = await stream.until(Topic.ALERTS, lambda found: _kinds(found) == [*told, "recovered"])
    assert (alerts[-1].signal.spent_nanousd, alerts[-1].signal.window_end is None) == (0, False)


def _kinds(alerts: list[Any]) -> list[str]:
    return [alert.kind.value for alert in alerts]
