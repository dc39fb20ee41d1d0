"""The stream's lag in seconds, as its metrics page shows it."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from spendmeter_stream.metrics import StreamLag

NOW_MS = 1_700_000_000_000


@pytest.fixture
def lag() -> Iterator[StreamLag]:
    lag = StreamLag(lambda: NOW_MS / 1_000)
    yield lag
    lag.clear()


def shown(topic: str = "spend.usage", partition: int = 0) -> float | None:
    return REGISTRY.get_sample_value(
        "spendmeter_stream_lag_seconds", {"topic": topic, "partition": str(partition)}
    )


def test_a_partition_lags_by_the_age_of_its_oldest_record(lag: StreamLag) -> None:
    assert shown() is None
    lag.waits("spend.usage", 0, NOW_MS - 2_500)
    lag.waits("spend.totals", 0, NOW_MS - 1_000)

    assert (shown(), shown("spend.totals")) == (2.5, 1.0)
    lag.waits("spend.usage", 0, NOW_MS - 500)
    assert shown() == 0.5


def test_what_nothing_waits_in_does_not_lag_and_the_others_go_on_waiting(lag: StreamLag) -> None:
    for partition in (0, 1):
        lag.waits("spend.usage", partition, NOW_MS - 2_000)
    lag.nothing_waits(but_in=[("spend.usage", 1)])

    assert (shown(partition=0), shown(partition=1)) == (0.0, 2.0)


def test_a_brokers_clock_that_is_ahead_makes_no_lag_below_0(lag: StreamLag) -> None:
    lag.waits("spend.usage", 0, NOW_MS + 5_000)
    assert shown() == 0.0


def test_a_partition_that_another_worker_has_is_not_shown_here(lag: StreamLag) -> None:
    lag.waits("spend.usage", 0, NOW_MS)
    lag.clear()
    assert shown() is None
