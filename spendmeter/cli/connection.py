"""Where a command finds Kafka, ClickHouse and the proxy: options, environment, else the local stack."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaConnectionError
from pydantic_settings import BaseSettings

from spendmeter.client import NoSuchBudget
from spendmeter.local.endpoints import Endpoints, StackNotRunningError, find_stack, resolve_dir
from spendmeter.runtime.settings import ClickHouseSettings, Settings, load

T = TypeVar("T")
S = TypeVar("S", bound=BaseSettings)


def kafka_settings(dir_: Path | None) -> Settings:
    """The cluster that SPENDMETER_KAFKA_BOOTSTRAP names, else the local stack's."""
    if dir_ is None and "SPENDMETER_KAFKA_BOOTSTRAP" in os.environ:
        return load(Settings)
    return _of_stack(Settings, dir_)


def clickhouse_settings(dir_: Path | None) -> ClickHouseSettings:
    """The history that SPENDMETER_CLICKHOUSE_URL names, else the local stack's."""
    if dir_ is None and "SPENDMETER_CLICKHOUSE_URL" in os.environ:
        return load(ClickHouseSettings)
    return _of_stack(ClickHouseSettings, dir_)


def stack(dir_: Path | None) -> Endpoints:
    """The running local stack, or the words that say how to start one."""
    try:
        return find_stack(dir_)
    except StackNotRunningError as error:
        raise click.ClickException(str(error)) from None


def run(work: Callable[[], Coroutine[Any, Any, T]], settings: Settings) -> T:
    """Run a command's work; what a person can mend is told in a sentence, exit 1."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work())
    except NoSuchBudget as error:
        raise click.ClickException(str(error)) from None
    except KafkaConnectionError:
        raise click.ClickException(
            f"nothing answers at {settings.kafka_bootstrap}; `spendmeter status` says what runs"
        ) from None


def _of_stack(kind: type[S], dir_: Path | None) -> S:
    found, keys = stack(dir_), resolve_dir(dir_).signing_keys
    of_stack = {
        "kafka_bootstrap": found.kafka_bootstrap,
        "clickhouse_url": found.clickhouse_url,
        "clickhouse_user": "default",
        "clickhouse_password": found.clickhouse_password,
        "signing_keys_file": keys if keys.exists() else None,
    }
    return load(kind).model_copy(update=of_stack)
