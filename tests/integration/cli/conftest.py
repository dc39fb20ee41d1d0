"""Commands run in this process, on the real broker."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spendmeter.cli.main import main
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics

Spendmeter = Callable[..., Result]


@pytest.fixture
async def settings(kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A system of its own, which the commands find through the environment."""
    found = Settings(kafka_bootstrap=kafka, topic_prefix=topic_prefix, partitions=2)
    await create_topics(found)
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", topic_prefix)
    return found


def spendmeter(*arguments: str, stdin: str | None = None, exit_code: int = 0) -> str:
    """What the command prints; it must end with that exit code."""
    result = CliRunner().invoke(main, list(arguments), input=stdin)
    assert result.exit_code == exit_code, result.output
    return result.output


def spendmeter_json(*arguments: str, stdin: str | None = None) -> Any:
    """What the command prints with --json."""
    return json.loads(spendmeter(*arguments, "--json", stdin=stdin))
