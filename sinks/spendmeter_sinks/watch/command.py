"""`spendmeter watch`: checks on a schedule; `--once`: now."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from spendmeter.cli.connection import process_settings
from spendmeter.cli.options import dir_option
from spendmeter.cli.printing import say
from spendmeter.contract.topics import Topic
from spendmeter.runtime import clickhouse, logs, metrics
from spendmeter.runtime.process import begin, exiting_with_message
from spendmeter.topics.check import check_topics
from spendmeter.visible import one_line
from spendmeter_sinks.watch.check import Check
from spendmeter_sinks.watch.checks import checks_of
from spendmeter_sinks.watch.drift import Drift, show_since_equal
from spendmeter_sinks.watch.run_log import NotPrepared, prepare
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.watcher import Watcher


@click.command()
@click.argument("names", nargs=-1, metavar="[CHECK]...")
@click.option(
    "--once", is_flag=True, help="Run them now, print what they find, and end; exit 1 if one failed."
)
@dir_option
def watch(names: tuple[str, ...], once: bool, dir_: Path | None) -> None:
    """Search history on a schedule, and publish what somebody should know as alerts.

    All checks, or those that are named. Settings come from the environment (SPENDMETER_...;
    docs/reference/settings.md). SIGTERM ends it in order.
    """
    settings = process_settings(WatchSettings, dir_)
    checks = _chosen(checks_of(settings), names)
    logs.configure(settings)
    with exiting_with_message(settings, NotPrepared, clickhouse.Unusable):
        is_right = asyncio.run(_run_once(settings, checks) if once else _run(settings, checks))
    if not is_right:
        raise SystemExit(1)


def _chosen(checks: Sequence[Check], names: Sequence[str]) -> list[Check]:
    by_name = {check.name: check for check in checks}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name)
            raise click.BadParameter(f"there is no check {name!r}; there is {known}", param_hint="CHECK")
    return [by_name[name] for name in dict.fromkeys(names)] or [*checks]


async def _run(settings: WatchSettings, checks: Sequence[Check]) -> bool:
    stop = begin(settings)
    await _prepare(settings)
    metrics.READY.set(1)
    works = [Watcher(settings, checks).run(stop)]
    if any(isinstance(check, Drift) for check in checks):
        works.append(show_since_equal(settings, stop))
    await asyncio.gather(*works)
    metrics.READY.set(0)
    return True


async def _run_once(settings: WatchSettings, checks: Sequence[Check]) -> bool:
    await _prepare(settings)
    watcher, failed = Watcher(settings, checks), False
    for check in checks:
        found = await watcher.run_now(check)
        failed = failed or found is None
        for one in found or ():
            say(
                f"{check.name}: {one_line(one.alert.message)}" + ("" if one.is_new else " (published before)")
            )
        if not found:
            say(f"{check.name}: {'nothing found' if found is not None else 'failed'}")
    return not failed


async def _prepare(settings: WatchSettings) -> None:
    """Raises NotPrepared, Unusable, KafkaError."""
    checked = await check_topics(settings, [Topic.ALERTS])
    if checked.fatal:
        raise NotPrepared(checked.fatal)
    prepare(settings)
