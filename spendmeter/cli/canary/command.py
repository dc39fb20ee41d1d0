"""`spendmeter canary`: is a spent budget refused, and a reset one served, now and on the real path?"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import click
from pydantic import ValidationError

from spendmeter.cli.budget.accounts import PAIR, one_each
from spendmeter.cli.canary import metrics as canary_metrics
from spendmeter.cli.canary.model import ID_PREFIX, CanaryFailure, CanaryPlan, CanaryRound, DailyAllowance
from spendmeter.cli.canary.play import CanaryPlayer, CanaryStopped
from spendmeter.cli.canary.proxy import CanaryProxy
from spendmeter.cli.connection import kafka_settings, stack
from spendmeter.cli.options import UsdOption, dir_option, json_option, read_file
from spendmeter.cli.printing import clock, print_json_line, say, usd
from spendmeter.contract.budget import ANY
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import render_validation_error
from spendmeter.litellm.api import NotAnswered
from spendmeter.runtime import logs, metrics
from spendmeter.runtime.process import begin, exiting_with_message, pause, stop_on_signals
from spendmeter.settings import Settings
from spendmeter.values.dimensions import Dimension

KEY_VARIABLE = "SPENDMETER_CANARY_KEY"


@click.command()
@click.option("--url", envvar="SPENDMETER_PROXY_URL", help="The proxy.  [default: the stack's]")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False),
    help=f"File with the canary's own virtual key.  [default: the variable {KEY_VARIABLE}]",
)
@click.option(
    "--model",
    envvar="SPENDMETER_CANARY_MODEL",
    required=True,
    help="A cheap one that the key may use, and that has a price.",
)
@click.option(
    "--budget",
    "budget_id",
    default=ID_PREFIX,
    show_default=True,
    metavar="ID",
    help=f"The canary's own; it begins with {ID_PREFIX}, and is made if it is missing.",
)
@click.option(
    "--match",
    type=PAIR,
    multiple=True,
    help="What the budget names beside the key, such as team=red or end_user=canary.",
)
@click.option("--limit-usd", type=UsdOption(), default="0.00001", show_default=True, help="Of the budget.")
@click.option(
    "--max-usd-per-day",
    type=UsdOption(),
    default="0.1",
    show_default=True,
    help="The canary stops there until the next day (UTC).",
)
@click.option("--every", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Seconds.")
@click.option(
    "--within",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a refusal or a readmission; none until then is a failure.",
)
@click.option("--once", is_flag=True, help="One round; exit 0 if it was right, else 1.")
@dir_option
@json_option
def canary(
    url: str | None,
    key_file: str | None,
    model: str,
    budget_id: str,
    match: tuple[tuple[Dimension, str], ...],
    limit_usd: NanoUsd,
    max_usd_per_day: NanoUsd,
    every: float,
    within: float,
    once: bool,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Spend a tiny budget through the real path each minute; measure how soon it refuses and serves again.

    Needs a virtual key of its own. SIGTERM ends it and leaves the budget paused. With
    SPENDMETER_METRICS_PORT it serves Prometheus.
    """
    key = _key(key_file)
    plan = _plan(budget_id, match, key, limit_usd, within)
    if limit_usd > max_usd_per_day:
        raise click.UsageError("--limit-usd is above --max-usd-per-day: not one round could end; lower it")
    settings = kafka_settings(dir_)
    if "component" not in settings.model_fields_set:
        settings = settings.model_copy(update={"component": "canary"})
    try:
        proxy = CanaryProxy(url or stack(dir_).proxy_url, key, model, plan.match.get("end_user"))
    except NotAnswered as error:
        raise click.UsageError(str(error)) from None
    allowance = DailyAllowance(max_usd_per_day)
    with exiting_with_message(settings):
        code = asyncio.run(_run(settings, plan, proxy, allowance, 0.0 if once else every, as_json=as_json))
    sys.exit(code)


def _key(file: str | None) -> str:
    key = (read_file(file) if file is not None else os.environ.get(KEY_VARIABLE, "")).strip()
    where = file or KEY_VARIABLE
    if not key:
        raise click.UsageError(
            f"{where} holds no key; make one with `spendmeter key create --alias canary` and put it there"
        )
    if not (key.startswith("sk-") and key.isascii() and key.isprintable() and " " not in key):
        raise click.UsageError(f"{where} holds no virtual key of LiteLLM's; they begin with sk-")
    return key


def _plan(
    budget_id: str, match: tuple[tuple[Dimension, str], ...], key: str, limit: NanoUsd, within: float
) -> CanaryPlan:
    pairs = one_each(match, "--match")
    if "key" in pairs or ANY in pairs.values():
        raise click.UsageError("--match names one value each, and no key: the budget is of the canary's key")
    if not budget_id.startswith(ID_PREFIX):
        raise click.UsageError(
            f"the budget of a canary begins with {ID_PREFIX!r}, so that it is no other; name {ID_PREFIX}-…"
        )
    plan = CanaryPlan(budget_id, {"key": sha256(key.encode()).hexdigest(), **pairs}, limit, within)
    try:
        plan.new_budget(datetime.now(UTC))
    except ValidationError as error:
        raise click.UsageError(render_validation_error(error).removeprefix("value: ")) from None
    return plan


async def _run(
    settings: Settings,
    plan: CanaryPlan,
    proxy: CanaryProxy,
    allowance: DailyAllowance,
    every_seconds: float,
    *,
    as_json: bool,
) -> int:
    """Rounds until the process is to stop; one if `every_seconds` is 0. Returns the exit code."""
    is_right = True
    if every_seconds:
        logs.configure(settings)
        stop = begin(settings)
        metrics.READY.set(1)
    else:
        stop = stop_on_signals()
    player = CanaryPlayer(settings, plan, proxy, allowance, stop)
    while not stop.is_set():
        begun = time.monotonic()
        try:
            found = await player.play()
        except CanaryStopped:
            break
        canary_metrics.count(found)
        _show(found, plan, as_json=as_json)
        is_right = found.is_right
        if not every_seconds:
            break
        await pause(stop, max(0.0, begun + every_seconds - time.monotonic()))
    if player.has_armed:
        await _disarm(player, plan)
    return 0 if is_right or every_seconds else 1


async def _disarm(player: CanaryPlayer, plan: CanaryPlan) -> None:
    try:
        await player.disarm()
    except CanaryFailure as failure:
        say(
            f"the budget {plan.budget_id} is not paused: {failure}. It refuses the canary's key alone",
            err=True,
        )
    else:
        say(f"the budget {plan.budget_id} is paused, and refuses nothing", err=True)


def _show(found: CanaryRound, plan: CanaryPlan, *, as_json: bool) -> None:
    if as_json:
        print_json_line(found)
    if found.failed_at:
        say(f"{clock(found.at)}  failed at {found.failed_at}: {found.failure}", err=True)
    elif not as_json:
        wrong = f", {found.served_past_limit} served past the limit" if found.served_past_limit else ""
        say(
            f"{clock(found.at)}  refused {found.refused_after_ms:g} ms after"
            f" {usd(plan.limit_nanousd)} was spent, served again {found.readmitted_after_ms:g} ms after"
            f" the reset; {found.requests} requests, {usd(found.cost_nanousd)}{wrong}"
        )
