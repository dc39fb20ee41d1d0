"""Reads source partitions' totals quickly, as usage_reader.py does events; the model has the last word."""

from collections.abc import Callable
from typing import Any

import msgspec

from spendmeter.contract.times import remembered_parse
from spendmeter.contract.total import Total
from spendmeter.contract.usage_reader import struct_of
from spendmeter.contract.wire import construct_unchecked

# Those of history are few, and are left to the model.
_decode: Callable[[bytes], Any] = msgspec.json.Decoder(
    struct_of(Total, only={"source_partition": int, "before": None})
).decode


def read_total(value: bytes) -> Total | None:
    """The total in these bytes; None where `Total` itself must be asked."""
    try:
        read = _decode(value)
        read.window_start = remembered_parse(read.window_start)
    except (msgspec.MsgspecError, ValueError):
        return None
    return construct_unchecked(Total, msgspec.structs.asdict(read))
