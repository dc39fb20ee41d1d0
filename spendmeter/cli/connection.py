"""How a command finds Kafka, ClickHouse and the proxy: options, environment, else the local stack."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic_settings import BaseSettings

from spendmeter.client import NoSuchBudget
from spendmeter.history.name_lookup import NameLookup
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.runtime import clickhouse
from spendmeter.runtime.clickhouse import Client
from spendmeter.runtime.endpoints import Endpoints, StackNotRunningError, find_stack, resolve_dir
from spendmeter.settings import ClickHouseSettings, Settings, load

T = TypeVar("T")
S = TypeVar("S", bound=BaseSettings)
C = TypeVar("C", bound=ClickHouseSettings)

NAMES_WITHIN_SECONDS = 10.0
"""Then a command shows ids."""
_KAFKA, _CLICKHOUSE = "SPENDMETER_KAFKA_BOOTSTRAP", "SPENDMETER_CLICKHOUSE_URL"


def kafka_settings(dir_: Path | None) -> Settings:
    """The cluster that SPENDMETER_KAFKA_BOOTSTRAP names, else the local stack's."""
    return _found(Settings, dir_, _KAFKA)


def clickhouse_settings(dir_: Path | None) -> ClickHouseSettings:
    """The history at SPENDMETER_CLICKHOUSE_URL, else the local stack's. For commands that need only
    history.
    """
    return _found(ClickHouseSettings, dir_, _CLICKHOUSE)


def names_settings(dir_: Path | None) -> ClickHouseSettings | None:
    """The history that names may come from, for commands that need only Kafka; None where none is named."""
    if dir_ is None and names_kafka() and not names_clickhouse():
        return None
    return clickhouse_settings(dir_)


def name_lookup(dir_: Path | None, *, wide: bool = False) -> NameLookup:
    """Names for a command to show; none where ids are wanted."""
    return NameLookup(None if wide else names_settings(dir_), NAMES_WITHIN_SECONDS)


def cluster_settings(dir_: Path | None) -> ClickHouseSettings:
    """Kafka and history of one system: both from the environment, or both from the local stack."""
    return process_settings(ClickHouseSettings, dir_)


def process_settings(kind: type[C], dir_: Path | None) -> C:
    """As `cluster_settings`, with the settings that a process has beside them."""
    return _found(kind, dir_, _KAFKA, _CLICKHOUSE)


def names_kafka() -> bool:
    """Whether the environment names a cluster."""
    return _KAFKA in os.environ


def names_clickhouse() -> bool:
    """Whether the environment names a history."""
    return _CLICKHOUSE in os.environ


def stack(dir_: Path | None) -> Endpoints:
    """The running local stack, or an error that says how to start one."""
    try:
        return find_stack(dir_)
    except StackNotRunningError as error:
        raise click.ClickException(str(error)) from None


def run(
    work: Callable[[], Coroutine[Any, Any, T]],
    settings: Settings,
    *,
    failed: str = "",
    then: str = "the same command again is safe",
) -> T:
    """Run a command's work; an error that a person can correct ends in a sentence, exit 1.

    Args:
        failed: what Kafka did not do; `then`: what to do about it. For errors that say too little by
        themselves.
    """
    try:
        return asyncio.run(work())
    except NoSuchBudget as error:
        raise click.ClickException(str(error)) from None
    except KafkaError as error:
        explanation = asyncio.run(explained(error, settings))
        raise click.ClickException(f"{failed} ({explanation}); {then}" if failed else explanation) from None


@contextmanager
def history(settings: ClickHouseSettings, **more: Any) -> Iterator[Client]:
    """A client of history (`more`: see `clickhouse.reader`); its errors end in a sentence, exit 1."""
    client = None
    try:
        with clickhouse.raising_unusable(settings):
            client = clickhouse.reader(settings, **more)
            yield client
    except clickhouse.Unusable as error:
        raise click.ClickException(str(error)) from None
    finally:
        if client is not None:
            client.close()


def _found(kind: type[S], dir_: Path | None, *needed: str) -> S:
    given = [name for name in (_KAFKA, _CLICKHOUSE) if name in os.environ]
    if dir_ is None and given:
        missing = [name for name in needed if name not in given]
        if missing:
            raise click.UsageError(
                f"{given[0]} is set and {missing[0]} is not; set both for a cluster of your own, or give"
                " --dir for a local stack"
            )
        return load(kind)
    found, keys = stack(dir_), resolve_dir(dir_).signing_keys
    of_stack = {
        "kafka_bootstrap": found.kafka_bootstrap,
        "clickhouse_url": found.clickhouse_url,
        "clickhouse_user": "default",
        "clickhouse_password": found.clickhouse_password,
        "signing_keys_file": keys if keys.exists() else None,
    }
    return load(kind).model_copy(update=of_stack)
