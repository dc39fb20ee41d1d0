"""Who takes part, and the order in which they are measured."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import click

from bench.admission import contenders
from bench.admission.contenders import Contender
from bench.admission.drive import KeyRun, UpstreamCount
from bench.admission.verdict import Cell, KeyResult, cell_of
from bench.local import DidNotStart
from spendmeter.runtime.endpoints import Endpoints


class Postgres(NamedTuple):
    """Where LiteLLM with a database comes from."""

    scripts: Path
    install: Path
    with_callback: bool


class Field(NamedTuple):
    """Who is there, and why somebody is not."""

    contenders: list[Contender]
    absent: dict[str, str]
    upstream_url: str


@contextmanager
def field_of(directory: Path, limit_nanousd: int, postgres: Postgres | None) -> Iterator[Field]:
    """Start everybody. Whoever does not start is absent, and the others go on."""
    with ExitStack() as running:
        ours, stack = running.enter_context(contenders.ours(directory, limit_nanousd))
        field = Field(ours, {}, stack.upstream_url)
        if postgres is None:
            field.absent["LiteLLM"] = "needs --litellm-postgres and --install"
        else:
            _start_postgres(running, directory, postgres, stack, field)
        yield field


def _start_postgres(
    running: ExitStack, directory: Path, postgres: Postgres, stack: Endpoints, field: Field
) -> None:
    try:
        native = running.enter_context(
            contenders.litellm_native(directory, postgres.scripts, postgres.install, stack.upstream_url)
        )
    except DidNotStart as error:
        field.absent["LiteLLM"] = str(error)
        return
    field.contenders.insert(0, native)
    if not postgres.with_callback:
        return
    try:
        field.contenders.extend(
            running.enter_context(contenders.ours_on_postgres(directory, postgres.install, native, stack))
        )
    except DidNotStart as error:
        field.absent[f"ours{contenders.ON_POSTGRES}"] = str(error)


async def measure(
    field: Field, loads: Sequence[tuple[int, bool]], keys: int, limit_nanousd: int, how: Mapping[str, Any]
) -> list[Cell]:
    """Every load by every contender, who take turns key by key. One that breaks is absent from there on."""
    found: dict[tuple[str, int, bool], list[KeyResult]] = defaultdict(list)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as http:
        count = UpstreamCount(field.upstream_url, http)
        for contender in field.contenders:
            # What LiteLLM imports and caches at its first requests is not what is compared.
            await _key(http, contender, count, limit_nanousd, field, {**how, "key": -1}, 1, False)
        for clients, max_tokens in loads:
            for key in range(keys):
                for contender in field.contenders:
                    if contender.name in field.absent:
                        continue
                    result = await _key(
                        http, contender, count, limit_nanousd, field, {**how, "key": key}, clients, max_tokens
                    )
                    if result is not None:
                        found[contender.name, clients, max_tokens].append(result)
            click.echo(f"{clients} clients, {'with' if max_tokens else 'without'} max_tokens: done", err=True)
    return [cell_of(*load, results) for load, results in found.items()]


async def _key(
    http: aiohttp.ClientSession,
    contender: Contender,
    count: UpstreamCount,
    limit_nanousd: int,
    field: Field,
    how: Mapping[str, Any],
    clients: int,
    max_tokens: bool,
) -> KeyResult | None:
    one = KeyRun(http, contender, count, limit_nanousd)
    try:
        return await one.run(clients=clients, max_tokens=max_tokens, **how)
    except (DidNotStart, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        field.absent[contender.name] = f"broke: {type(error).__name__} {error}"
        click.echo(f"{contender.name} {field.absent[contender.name]}", err=True)
        return None
