"""Laws of cutting: nothing is left out, nothing is planned twice, whatever happens in between."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from spendmeter_sinks.clickhouse.batch import Bounds, PartitionBatches
from spendmeter_sinks.clickhouse.plan import read_commit_note


@dataclass
class Stored:
    offset: int
    value: bytes | None
    key: bytes | None = None
    topic: str = "t"
    partition: int = 0
    timestamp: int = 1
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    is_refused: bool = False


# Offsets rise, with the holes that compaction leaves; sizes vary.
steps = st.tuples(st.integers(1, 4), st.integers(0, 50), st.sampled_from([False] * 9 + [True]))
logs = st.lists(steps, min_size=1, max_size=60).map(
    lambda taken: [
        Stored(sum(step for step, *_ in taken[: n + 1]), b"x" * size, is_refused=is_refused)
        for n, (_, size, is_refused) in enumerate(taken)
    ]
)
bounds = st.builds(Bounds, rows=st.integers(1, 20), bytes=st.integers(1, 200))
# What becomes of each plan in turn.
fates = st.lists(st.sampled_from(["kept", "crash before", "crash after"]), max_size=60)


@given(logs, bounds, fates, st.integers(1, 10))
def test_history_has_every_record_once_through_crashes_and_refusals(
    log: list[Stored], bounds: Bounds, fates: list[str], read_at_once: int
) -> None:
    stored: dict[str, list[int]] = {}
    put_aside: list[int] = []
    bad = {record.offset for record in log if record.is_refused}
    in_kafka: tuple[int, str] | None = None
    worker, unread = _start(log, bounds, in_kafka)
    fortune = iter(fates)
    for _ in range(10_000):
        if (plan := worker.cut()) is None:
            if not unread:
                break
            chunk, unread = unread[:read_at_once], unread[read_at_once:]
            worker.add(chunk, chunk[-1].offset + 1)
            continue
        in_kafka = worker.committable()
        token, rows = plan.token("t", 0), worker.planned()
        fate = next(fortune, "kept")
        if fate == "crash before":
            worker, unread = _start(log, bounds, in_kafka)
            continue
        refused = any(record.offset in bad for record in rows)
        if not refused:
            stored.setdefault(token, [r.offset for r in rows])  # a token's second insert is dropped
        if fate == "crash after":
            worker, unread = _start(log, bounds, in_kafka)
        elif refused and not worker.refuse():
            put_aside += [record.offset for record in rows]
            worker.finish()
        elif not refused:
            worker.finish()
    else:
        raise AssertionError("it never came to an end")
    kept = [offset for rows in stored.values() for offset in rows]
    assert sorted(kept) == [record.offset for record in log if not record.is_refused]
    assert put_aside == [record.offset for record in log if record.is_refused]


@given(logs, bounds)
def test_no_batch_is_beyond_its_bounds_unless_it_is_one_record(log: list[Stored], bounds: Bounds) -> None:
    worker = PartitionBatches(bounds, None)
    worker.add(log, log[-1].offset + 1)
    while worker.cut() is not None:
        planned = worker.planned()
        assert len(planned) <= bounds.rows
        assert len(planned) == 1 or sum(len(r.value or b"") for r in planned) <= bounds.bytes
        worker.finish()
    assert worker.bytes == 0


def _start(
    log: list[Stored], bounds: Bounds, in_kafka: tuple[int, str] | None
) -> tuple[PartitionBatches, list[Stored]]:
    """A new worker, from what Kafka remembers and nothing else."""
    offset, metadata = in_kafka or (None, "")
    plan = None if offset is None else read_commit_note(offset, metadata).plan
    return PartitionBatches(bounds, offset, plan), [r for r in log if offset is None or r.offset >= offset]
