"""`spendmeter status`: what runs, whether it keeps up, and in which versions."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from spendmeter.cli.connection import (
    clickhouse_settings,
    history,
    kafka_settings,
    names_clickhouse,
    names_kafka,
)
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import STATES, clock, print_json, print_table, say
from spendmeter.contract.topics import Topic
from spendmeter.history.dead_letters import DeadLetterTopic
from spendmeter.history.reconciles import ReconcileOutcome, ReconcileRun, last_reconcile
from spendmeter.kafka.client import KafkaError, TopicPartition
from spendmeter.kafka.errors import explained
from spendmeter.kafka.group_state import GroupState, group_states, groups_beginning
from spendmeter.kafka.groups import ALERTS_GROUP, SINK_GROUP, SINK_TOPICS, STREAM_GROUP, STREAM_TOPICS
from spendmeter.runtime.endpoints import resolve_dir
from spendmeter.runtime.stack_status import StackStatus, read_status
from spendmeter.runtime.supported import clickhouse_warning, describe_kafka
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.topics.check import check_topics
from spendmeter.topics.state import TopicState
from spendmeter.values.times import format_time
from spendmeter.visible import visible

WRONG, NOT_RUNNING = 1, 3
_THIS_COMMAND = " (`spendmeter status` says what runs here)"
_STARTED_BY = {STREAM_GROUP: "spendmeter stream", SINK_GROUP: "spendmeter sink"}


@dataclass
class ClusterStatus:
    """What was found out; what could not be is among the problems."""

    kafka: dict[str, Any] = field(default_factory=dict)
    clickhouse: dict[str, Any] = field(default_factory=dict)
    groups: list[GroupState] = field(default_factory=list)
    reconciled: ReconcileRun | None = None
    """The last comparison of recorded events, totals, signals and history."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """Reason: how many wait to be replayed or discarded."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@click.command()
@click.option(
    "--behind",
    "behind_seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How old an unread record may be, in seconds, until its reader counts as behind.",
)
@dir_option
@json_option
def status(behind_seconds: float, dir_: Path | None, as_json: bool) -> None:
    """What runs, whether it keeps up, and in which versions.

    Of the local stack, or of the cluster that SPENDMETER_KAFKA_BOOTSTRAP and SPENDMETER_CLICKHOUSE_URL name.

    Exit 0: all is there and keeps up; 1: something is behind or missing, and is said; 3: no local stack runs.
    """
    is_local = dir_ is not None or not (names_kafka() or names_clickhouse())
    stack = read_status(resolve_dir(dir_)) if is_local else None
    found = ClusterStatus()
    if stack is None or stack.ready:
        asyncio.run(_ask(found, dir_, behind_seconds, is_local=is_local))
    if stack is not None:
        found.problems[:0] = [
            f"{name} is {one.state}; its log is {one.log}"
            for name, one in stack.components.items()
            if one.state not in ("ready", "done")
        ]
    if as_json:
        print_json(_as_data(stack, found))
    else:
        _print(stack, found, resolve_dir(dir_).path)
    if stack is not None and not stack.running:
        raise SystemExit(NOT_RUNNING)
    if found.problems:
        raise SystemExit(WRONG)


async def _ask(found: ClusterStatus, dir_: Path | None, behind_seconds: float, *, is_local: bool) -> None:
    if is_local or names_kafka():
        await _ask_kafka(found, kafka_settings(dir_), behind_seconds)
    if is_local or names_clickhouse():
        await asyncio.to_thread(_ask_clickhouse, found, clickhouse_settings(dir_))


async def _ask_kafka(found: ClusterStatus, settings: Settings, behind_seconds: float) -> None:
    found.kafka = {"address": settings.kafka_bootstrap}
    try:
        described = await describe_kafka(settings)
        found.kafka |= {"brokers": described.brokers, "version": described.version}
        found.warnings += [described.warning] if described.warning else []
        checked = await check_topics(settings, [*Topic], whatever_partitions=True)
        found.problems += [one.sentence for one in checked.findings if one.is_fatal]
        found.warnings += checked.warnings
        found.groups = await _ask_groups(settings, checked.states)
        found.problems += _problems_of_groups(found.groups, settings, behind_seconds)
        if settings.topic(Topic.DEAD_LETTERS) in checked.states:
            letters = DeadLetterTopic(settings)
            await letters.read_to_end()
            waiting = [aside.letter.reason.value for aside in letters.letters.values() if not aside.resolved]
            found.dead_letters = dict(sorted(Counter(waiting).items()))
    except KafkaError as error:
        found.problems.append((await explained(error, settings)).replace(_THIS_COMMAND, ""))
    if count := sum(found.dead_letters.values()):
        found.problems.append(
            f"{count:,} records could not be read or counted; `spendmeter letters list` shows them"
        )


async def _ask_groups(settings: Settings, topics: Mapping[str, TopicState]) -> list[GroupState]:
    prefix = settings.topic_prefix
    relays = await groups_beginning(settings, f"{prefix}{ALERTS_GROUP}.")
    read_by = {prefix + STREAM_GROUP: STREAM_TOPICS, prefix + SINK_GROUP: SINK_TOPICS}
    read_by |= dict.fromkeys(relays, (Topic.ALERTS,))
    return await group_states(
        settings,
        {
            group: [
                TopicPartition(name, number)
                for name in map(settings.topic, of_group)
                if name in topics
                for number in range(topics[name].partitions)
            ]
            for group, of_group in read_by.items()
        },
    )


def _problems_of_groups(groups: Sequence[GroupState], settings: Settings, behind_seconds: float) -> list[str]:
    found = []
    for group in groups:
        started_by = _STARTED_BY.get(group.name.removeprefix(settings.topic_prefix))
        if not group.members and started_by is not None:
            found.append(f"nobody runs `{started_by}`: {group.name} has no member")
        # A route that is no longer in the file leaves its group behind.
        is_used = bool(group.members) or started_by is not None
        if is_used and group.seconds is not None and group.seconds > behind_seconds:
            found.append(
                f"{group.name} is behind: {group.records:,} records, the oldest of {group.seconds:,.0f} s ago"
            )
    return found


def _ask_clickhouse(found: ClusterStatus, settings: ClickHouseSettings) -> None:
    found.clickhouse = {"address": settings.clickhouse_address}
    try:
        with history(settings) as client:
            found.clickhouse["version"] = client.server_version
            (schema,) = client.query("SELECT max(version) FROM schema_migrations").result_rows[0]
            found.clickhouse["schema"] = schema
            if client.command("EXISTS TABLE reconciles"):
                found.reconciled = last_reconcile(client)
            if (warning := clickhouse_warning(client.server_version)) is not None:
                found.warnings.append(warning)
    except click.ClickException as error:
        found.problems.append(error.message.replace(_THIS_COMMAND, ""))
    if found.reconciled is not None and found.reconciled.outcome is ReconcileOutcome.DIFFERS:
        found.problems.append(f"{_render_reconciled(found.reconciled)}; `spendmeter reconcile` shows each")


def _print(stack: StackStatus | None, found: ClusterStatus, path: Path) -> None:
    if stack is not None and not stack.running:
        return say(f"nothing runs in {path}; start it: spendmeter up")
    if stack is not None:
        _print_components(stack)
        say()
    for name, known in (("kafka", found.kafka), ("clickhouse", found.clickhouse)):
        if known:
            say(f"{name:<12} {_render_server(known)}")
    say(f"{'spendmeter':<12} {version('spendmeter')} here")
    if found.reconciled is not None and found.reconciled.outcome is not ReconcileOutcome.DIFFERS:
        say(f"{'reconcile':<12} {_render_reconciled(found.reconciled)}")
    if found.groups:
        say()
        _print_groups(found.groups)
    for warning in found.warnings:
        say(f"warning: {warning}", err=True)
    for problem in found.problems:
        say(f"! {problem}", err=True)
    if not found.problems:
        say("all is there and keeps up")
    return None


def _render_server(known: dict[str, Any]) -> str:
    parts = [str(known["address"])]
    if "brokers" in known:
        parts.append(f"{known['brokers']} broker{'s' if known['brokers'] != 1 else ''}")
    if "version" in known:
        parts.append(f"version {known['version']}")
    if "schema" in known:
        parts.append(f"tables of migration {known['schema']}")
    return ", ".join(parts)


def _render_reconciled(run: ReconcileRun) -> str:
    outcome = {
        ReconcileOutcome.EQUAL: run.summary,
        ReconcileOutcome.DIFFERS: f"events, totals, signals and history differ: {run.summary}",
        ReconcileOutcome.NOT_COMPARABLE: f"could not compare: {run.summary}",
    }
    return visible(f"{clock(run.checked_at)}  {outcome[run.outcome]}")


def _print_components(stack: StackStatus) -> None:
    rows = [
        (
            name,
            component.state,
            str(component.pid or "-"),
            f"{int(time.time() - component.since)} s",
            str(component.restarts),
            component.last_exit or "-",
        )
        for name, component in stack.components.items()
    ]
    print_table(
        ("component", "state", "pid", "for", "restarts", "ended last"), rows, colours={"state": STATES}
    )


def _print_groups(groups: Sequence[GroupState]) -> None:
    rows = [
        (
            group.name,
            f"{len(group.members)}",
            f"{group.records:,}",
            "-" if group.seconds is None else f"{group.seconds:,.1f} s",
            group.state,
            ", ".join(sorted({member.client for member in group.members})) or "-",
        )
        for group in groups
    ]
    print_table(
        ("group", "members", "unread", "oldest", "state", "who"),
        rows,
        right=("members", "unread", "oldest"),
        whole=("group",),
        spare=("who",),
    )


def _reconciled_as_data(run: ReconcileRun) -> dict[str, Any]:
    return {
        "checked_at": format_time(run.checked_at),
        "outcome": run.outcome.value,
        "summary": run.summary,
        "run_by": run.run_by,
        "events": run.events,
        "accounts": run.accounts,
        "differences": run.differences,
    }


def _as_data(stack: StackStatus | None, found: ClusterStatus) -> dict[str, Any]:
    of_stack = {} if stack is None else stack.model_dump(mode="json")
    return {
        **of_stack,
        "versions": {"spendmeter": version("spendmeter")},
        "kafka": found.kafka or None,
        "clickhouse": found.clickhouse or None,
        "groups": [
            {
                "group": group.name,
                "state": group.state,
                "members": [member._asdict() for member in group.members],
                "unread": group.records,
                "oldest_seconds": group.seconds,
                "topics": [lag._asdict() for lag in group.lags],
            }
            for group in found.groups
        ],
        "dead_letters": found.dead_letters,
        "reconcile": None if found.reconciled is None else _reconciled_as_data(found.reconciled),
        "warnings": found.warnings,
        "problems": found.problems,
    }
