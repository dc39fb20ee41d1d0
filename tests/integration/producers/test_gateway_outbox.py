"""What the settings say about the outbox is what the gateway does."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Origin
from spendmeter_gateway.outbox.writer import Outbox, OutboxUnwritable
from spendmeter_gateway.settings import GatewaySettings

from .conftest import draft, recorded


@pytest.mark.parametrize(("is_on", "flushes"), [(True, 2), (False, 0)])
async def test_with_outbox_fsync_each_event_is_flushed_and_else_none(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch, is_on: bool, flushes: int
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    gateway = Gateway(settings.model_copy(update={"outbox_fsync": is_on}))
    gateway.start()
    try:
        recorded(gateway, 1)
        recorded(gateway, 1)
        assert len(flushed) == flushes
    finally:
        await asyncio.to_thread(gateway.stop)


def test_what_was_left_behind_is_sent_although_the_outbox_opens_only_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Outbox.open(tmp_path / "outbox", max_bytes=1_000_000)
    earlier.append(lambda seq: draft(1).finish(Origin(earlier.producer_id, "g"), seq))
    earlier.close()
    refusals = iter([OutboxUnwritable("the disk is full")])
    begin = Outbox.open

    def refused_at_first(*args: Any, **given: Any) -> Outbox:
        for refusal in refusals:
            raise refusal
        return begin(*args, **given)

    monkeypatch.setattr(Outbox, "open", refused_at_first)
    gateway = Gateway(GatewaySettings(data_dir=tmp_path))
    gateway._open_outbox()
    gateway._open_outbox()

    assert [frame.seq for left in gateway._predecessors for frame in left.unsent.read(10)] == [1]
    for left in gateway._predecessors:
        left.release()
    gateway._recorder.close()
    gateway._loop.close()
