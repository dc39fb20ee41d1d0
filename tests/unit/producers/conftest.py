"""Gateways without Kafka, closed when their test has ended."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.producers.strict_world import World

Made = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    made: list[World] = []

    def one(**settings: Any) -> World:
        world = World(tmp_path, **settings)
        world.sets()
        made.append(world)
        return world

    yield one
    for world in made:
        world.outbox.close()
        world.gateway._loop.close()


@pytest.fixture
def world(make: Made) -> World:
    return make()
