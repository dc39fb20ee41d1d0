"""`spendmeter doctor`: what is wrong with a system, before and after it goes live."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, say
from spendmeter.extras import needs
from spendmeter.settings import ENV_PREFIX, ClickHouseSettings
from spendmeter_doctor.checks.environment import unknown_settings, wrong_settings
from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, fault
from spendmeter_doctor.litellm_config import InvalidConfig, LitellmConfig, read_config
from spendmeter_doctor.run import WITHIN_SECONDS, diagnose, worst_first
from spendmeter_doctor.system import LitellmAccess, Process, System
from spendmeter_gateway.checks import installed_litellm
from spendmeter_gateway.settings import GatewaySettings

WARNINGS, FAULTS = 1, 2
_COLOURS = {
    FindingSeverity.FAULT: "red",
    FindingSeverity.WARNING: "yellow",
    FindingSeverity.UNCHECKED: "cyan",
}
_BY_DEFAULT = (Process.GATEWAY, Process.STREAM, Process.SINK)
_WORKERS = "NUM_WORKERS"


@click.command()
@click.option(
    "--litellm-config",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LiteLLM's configuration, to check it, too.",
)
@click.option(
    "--process",
    "processes",
    type=click.Choice([one.value for one in Process]),
    multiple=True,
    help="Check the rights of these only.  [default: gateway, stream, sink]",
)
@click.option("--url", envvar="SPENDMETER_PROXY_URL", help="The running LiteLLM proxy.")
@click.option("--api-key", envvar="SPENDMETER_MASTER_KEY", help="Its master key.")
@click.option(
    "--workers", type=click.IntRange(min=1), envvar=_WORKERS, default=1, help="Worker processes of one proxy."
)
@click.option(
    "--within",
    type=click.FloatRange(min=1, max=600),
    default=WITHIN_SECONDS,
    show_default=True,
    help="Seconds for all checks together.",
)
@dir_option
@json_option
def doctor(
    config: Path | None,
    processes: Sequence[str],
    url: str | None,
    api_key: str | None,
    workers: int,
    within: float,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Check Kafka, ClickHouse, clocks, LiteLLM's configuration, prices and the outbox's disk.

    Run it with the settings of each process, before and after going live; it changes nothing. Exit 0: nothing
    is wrong; 1: warnings; 2: faults. What could not be checked is said, and does not count.
    """
    chosen = frozenset(map(Process, processes)) or frozenset(_BY_DEFAULT)
    found = [*wrong_settings(chosen), *unknown_settings(os.environ)]
    read: LitellmConfig | None = None
    if config is not None:
        try:
            read = read_config(config)
        except InvalidConfig as error:
            found.append(fault("config-invalid", str(error), f"correct {config}"))
    if not any(one.code == "setting-invalid" for one in found):
        access = LitellmAccess(url, api_key) if url and api_key else None
        found += diagnose(_system(chosen, read, access, workers, dir_), within)
    _finish(worst_first(found), as_json)


def _system(
    processes: frozenset[Process],
    config: LitellmConfig | None,
    access: LitellmAccess | None,
    workers: int,
    dir_: Path | None,
) -> System:
    own_cluster = dir_ is None and f"{ENV_PREFIX}KAFKA_BOOTSTRAP" in os.environ
    has_history = not own_cluster or f"{ENV_PREFIX}CLICKHOUSE_URL" in os.environ
    settings = ClickHouseSettings() if own_cluster else _of_stack(dir_)
    return System(
        settings=settings,
        processes=processes,
        has_history=has_history,
        gateway=GatewaySettings() if own_cluster else None,
        is_data_dir_set=f"{ENV_PREFIX}DATA_DIR" in os.environ,
        litellm_release=installed_litellm(),
        config=config,
        litellm=access,
        workers=workers,
    )


def _of_stack(dir_: Path | None) -> ClickHouseSettings:
    # Not at the top: beside LiteLLM there need be no client of ClickHouse.
    with needs():
        from spendmeter.cli.connection import cluster_settings

    return cluster_settings(dir_)


def _finish(found: list[Diagnosis], as_json: bool) -> None:
    worst = {one.severity for one in found}
    code = FAULTS if FindingSeverity.FAULT in worst else WARNINGS if FindingSeverity.WARNING in worst else 0
    if as_json:
        print_json({"exit_code": code, "findings": [one._asdict() for one in found]})
    else:
        for one in found:
            _show(one)
        say(_summary(found), err=code != 0)
    raise SystemExit(code)


def _show(one: Diagnosis) -> None:
    say(f"{one.severity.value}  {one.code}", colour=_COLOURS[one.severity])
    say(f"  {one.what}")
    say(f"  fix: {one.fix}")


def _summary(found: Sequence[Diagnosis]) -> str:
    counts = {severity: sum(one.severity is severity for one in found) for severity in FindingSeverity}
    faults, warnings = counts[FindingSeverity.FAULT], counts[FindingSeverity.WARNING]
    left = f"; {counts[FindingSeverity.UNCHECKED]} not checked" if counts[FindingSeverity.UNCHECKED] else ""
    if not faults and not warnings:
        return f"nothing is wrong{left}"
    return f"{faults} fault{'s' * (faults != 1)}, {warnings} warning{'s' * (warnings != 1)}{left}"
