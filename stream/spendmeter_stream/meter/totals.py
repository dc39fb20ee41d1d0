"""Totals as the meter tells them. Pure."""

from spendmeter.contract.total import Total
from spendmeter.contract.wire import made
from spendmeter_stream.state import Counted, Tally


def total_of(where: Counted, tally: Tally, partition: int, incarnation: str = "") -> Total:
    """What the tally says of its account to the judge."""
    return made(
        Total,
        {
            "account": where.account,
            "window_start": where.window_start,
            "source_partition": partition,
            "spent_nanousd": tally.spent_nanousd,
            "events": tally.events,
            "first_offset": tally.first_offset,
            "last_offset": tally.last_offset,
            "last_event_id": tally.last_event_id,
            "before": None,
            "shape": where.shape,
            "revision": 0,
            "incarnation": incarnation,
        },
    )
