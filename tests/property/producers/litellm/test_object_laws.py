"""Any reads of objects, by anybody, at any gateways, in any order, with restarts: one bill for each."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.provider_object import ObjectKind, ProviderObject, object_event_id, object_name
from spendmeter.contract.records import decode_usage, encode_usage
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.charge import cost_for
from spendmeter.domain.matching import BudgetBook
from spendmeter.values.ids import uuid7
from spendmeter_gateway.litellm.payload.provider_objects import Sighting, bill_of
from spendmeter_gateway.model import Origin, UsageDraft
from spendmeter_sinks.clickhouse.writer import RecordLocation, repeats_in
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import budget

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
COST = 3_500_000
BOOK = BudgetBook(
    [budget(id="per-key", match={"key": "*"}, period="day"), budget(id="all", match={}, period="lifetime")]
)
OBJECTS = ("resp_1", "batch_1")


class Read(NamedTuple):
    """One read of a finished object, as a gateway logs it."""

    own_id: str
    gateway: int
    restarts: bool
    """The gateway forgets what it has recorded, and begins another outbox."""
    knows_the_maker: bool
    reader: str
    minutes_later: int
    """Than the end, which the provider may or may not tell."""
    is_end_told: bool
    is_resent: bool
    """Its record is sent twice."""


READS = st.lists(
    st.builds(
        Read,
        st.sampled_from(OBJECTS),
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 5_000),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def events(reads: list[Read]) -> Iterator[UsageEvent]:
    """What the gateways send."""
    outboxes: list[Any] = [[0, 0, set()] for _ in range(3)]
    for read in reads:
        outbox = outboxes[read.gateway]
        if read.restarts:
            outbox[:] = [outbox[0] + 1, 0, set()]
        now = NOW + timedelta(minutes=read.minutes_later)
        name = object_name("openai", read.own_id)
        ended = NOW if read.is_end_told else None
        seen = Sighting(name, read.own_id, ObjectKind.BATCH, False, False, True, NOW, ended, (), 0)
        fields = {
            "event_id": uuid7(0),
            "occurred_at": now,
            "started_at": now,
            "key": read.reader,
            "model": "m",
            "cost_nanousd": COST,
            "cost_source": CostSource.LITELLM,
            "total_tokens": 1,
        }
        maker = ProviderObject(object_id=name, kind=ObjectKind.BATCH, created_at=NOW, key="maker")
        bill = bill_of(UsageDraft(fields), seen, maker if read.knows_the_maker else None, now)
        assert bill is not None
        if bill.fields["event_id"] in outbox[2]:
            continue
        outbox[2].add(bill.fields["event_id"])
        outbox[1] += 1
        event = bill.finish(Origin(f"g{read.gateway}-{outbox[0]}", f"g{read.gateway}"), outbox[1])
        yield from [event] * (1 + read.is_resent)


@given(READS, st.lists(st.integers(0, 100), max_size=4))
@settings(deadline=None)
def test_each_object_is_billed_once_and_to_its_maker_where_the_first_bill_knew_it(
    reads: list[Read], ends: list[int]
) -> None:
    log = [UsageRecord(offset, NOW + timedelta(days=5), event) for offset, event in enumerate(events(reads))]
    first = {read.own_id: read for read in reversed(reads)}

    meter = Meter(0)
    bounds = sorted({0, len(log), *(end % (len(log) + 1) for end in ends)})
    for start, end in pairwise(bounds):
        meter.fold(log[start:end], BOOK)

    spent = {where.account: tally.spent_nanousd for where, tally in meter.tallies.items()}
    payers = ["maker" if read.knows_the_maker else read.reader for read in first.values()]
    assert spent.pop("all|") == COST * len(first)
    assert {account: cost for account, cost in spent.items() if cost} == {
        f"per-key|key={payer}": COST * payers.count(payer) for payer in payers
    }
    assert kept_by_history(log, ends) == {read.own_id for read in first.values()}


def kept_by_history(log: list[UsageRecord], ends: list[int]) -> set[str]:
    """What the sink keeps, batch by batch; it must be what the stream has counted, and nothing twice."""
    first: dict[str, RecordLocation] = {}
    kept: list[UsageEvent] = []
    bounds = sorted({0, len(log), *(end % (len(log) + 1) for end in ends)})
    for start, end in pairwise(bounds):
        batch = [(offset, event) for offset, _, event in log[start:end] if event is not None]
        for offset, event in batch:
            first.setdefault(event.object_id, RecordLocation("t", 0, offset, "i"))
        bills: list[list[Any]] = [
            [event.object_id for _, event in batch],
            [event.producer_id for _, event in batch],
            [event.seq for _, event in batch],
            [event.event_id.int for _, event in batch],
            ["t" for _ in batch],
            [0 for _ in batch],
            [offset for offset, _ in batch],
            [0 for _ in batch],
            ["i" for _ in batch],
        ]
        repeats = repeats_in(bills, first)
        kept += [event for offset, event in batch if RecordLocation("t", 0, offset, "i") not in repeats]
    assert len({event.object_id for event in kept}) == len(kept)
    assert sum(cost_for(BOOK.get("all") or budget(), event) for event in kept) == COST * len(kept)
    return {event.response_id for event in kept}


@given(READS)
@settings(deadline=None)
def test_every_bill_of_an_object_has_one_name_one_place_and_one_id(reads: list[Read]) -> None:
    for event in events(reads):
        record = encode_usage(event)
        assert record.key.decode() == event.object_id == f"openai/{event.response_id}"
        assert event.event_id == object_event_id(event.object_id)
        assert event.occurred_at == NOW, "the same window, whenever it is read"
        assert decode_usage(record.value, record.headers, NOW) == event
