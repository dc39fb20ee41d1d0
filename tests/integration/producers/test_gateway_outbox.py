"""What the settings say about the outbox is what the gateway does."""

import asyncio
import os

import pytest

from producers.gateway import Gateway
from producers.settings import GatewaySettings

from .conftest import recorded


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
