"""`spendmeter letters`: records that could not be read or counted; list, replay or discard them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from spendmeter.cli.connection import cluster_settings, history, kafka_settings, run
from spendmeter.cli.options import TimeOption, dir_option, json_option, wait_option
from spendmeter.cli.printing import clock, cut, print_json, say, terminal_width
from spendmeter.client import who
from spendmeter.contract.dead_letter import DeadLetter, Reason, Resolution, not_held
from spendmeter.contract.records import Record, encode_dead_letter, encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.history.dead_letters import (
    DeadLetterTopic,
    HistoryCopy,
    NotReplayable,
    PutAside,
    fetch_dead_letters,
    is_counted,
    replay_of,
)
from spendmeter.history.usage import find_copies
from spendmeter.kafka.client import TopicPartition, admin_client, consumer, producer
from spendmeter.kafka.groups import SINK_GROUP, STREAM_GROUP, wait_until_passed
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.visible import visible

MAX_SHOWN = 1_000
"""Lines of `list` without --json."""
MAX_DETAIL_CHARACTERS = 100
AT_ONCE = 200
"""Dead letters whose payloads are in memory together, and that one query of history covers."""

_F = TypeVar("_F", bound=Callable[..., Any])


class Filter(NamedTuple):
    """The dead letters that a command is about."""

    ids: tuple[str, ...]
    reasons: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    everything: bool = False
    """Whether resolved ones are included."""

    @property
    def names_some(self) -> bool:
        return bool(self.ids or self.reasons or self.since or self.until)

    def selects(self, aside: PutAside) -> bool:
        letter = aside.letter
        if self.ids:
            return letter.id in self.ids
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (self.everything or aside.resolved is None)
        )


class ReplayOutcome(NamedTuple):
    """The outcome of one dead letter of a replay."""

    aside: PutAside
    event: UsageEvent | None = None
    """The record to send."""
    is_counted: bool = False
    refusal: str = ""


def _filtered(command: _F) -> _F:
    for option in (
        click.argument("ids", metavar="[ID]...", nargs=-1),
        click.option(
            "--reason",
            "reasons",
            multiple=True,
            type=click.Choice([reason.value for reason in Reason]),
            metavar="REASON",
            help=f"May be given again. One of {', '.join(reason.value for reason in Reason)}.",
        ),
        click.option("--since", type=TimeOption(), metavar="TIME", help="Put aside then or later."),
        click.option("--until", type=TimeOption(), metavar="TIME", help="Put aside before then."),
    ):
        command = option(command)
    return command


@click.group()
def letters() -> None:
    """Dead letters: records that could not be read or counted. Each is kept whole on spend.dead-letters."""


@letters.command("list")
@_filtered
@click.option("--all", "everything", is_flag=True, help="Also those that were replayed or discarded.")
@dir_option
@json_option
def list_(
    ids: tuple[str, ...],
    reasons: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    everything: bool,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """List dead letters, oldest first. ID is topic:partition:offset of the record."""
    wanted = Filter(ids, reasons, since, until, everything)
    found = _read(kafka_settings(dir_), wanted)
    if as_json:
        return print_json([_data(aside) for aside in found])
    width = terminal_width()
    for aside in found[:MAX_SHOWN]:
        say(_line(aside) if width is None else cut(visible(_line(aside)), width))
    if len(found) > MAX_SHOWN:
        say(f"… and {len(found) - MAX_SHOWN:,} more; --json lists them all", err=True)
    if not found:
        return say("no dead letters" + ("" if everything else " that wait; --all shows the others"))
    counts = Counter(aside.letter.reason.value for aside in found)
    return say(", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items())), err=True)


@letters.command()
@click.argument("id_", metavar="ID")
@dir_option
@json_option
def show(id_: str, dir_: Path | None, as_json: bool) -> None:
    """Show one dead letter with its record."""
    settings = kafka_settings(dir_)
    (aside,) = _read(settings, Filter((id_,), (), None, None))
    (letter,) = _payloads(settings, [aside])
    if as_json:
        return print_json(
            {
                **_data(aside),
                **letter.model_dump(mode="json", include={"key", "payload", "encoding", "headers"}),
            }
        )
    say(_line(aside))
    for name, text in (
        ("reason", f"{letter.reason}: {letter.detail}"),
        ("met by", letter.component),
        ("key", letter.key),
        *((f"header {name}", text) for name, text in letter.headers.items()),
        (f"record ({letter.encoding})", letter.payload),
    ):
        say(f"{name}: {text}")
    return None


@letters.command()
@_filtered
@wait_option(
    "Seconds to wait until stream and history have read everything, so that it is known what counts."
)
@dir_option
@json_option
def replay(
    ids: tuple[str, ...],
    reasons: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    wait_seconds: float,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Count events that can be read by now, each once, in budgets and in history.

    Exit 0: all of them count; 1: some could not be replayed.
    """
    settings = cluster_settings(dir_)
    found = _read(settings, _some(Filter(ids, reasons, since, until)))
    _wait_until_known(settings, wait_seconds)
    outcomes = [
        outcome
        for first in range(0, len(found), AT_ONCE)
        for outcome in _replay(settings, found[first : first + AT_ONCE])
    ]
    refused = [outcome for outcome in outcomes if outcome.refusal]
    if as_json:
        print_json([{"id": o.aside.id, "outcome": _word(o), "why": o.refusal or None} for o in outcomes])
    else:
        for outcome in refused:
            say(f"{outcome.aside.id} was not replayed: {outcome.refusal}", err=True)
        counts = Counter(map(_word, outcomes))
        say(
            f"{counts['replayed']:,} replayed, {counts['counted']:,} had been counted already,"
            f" {counts['refused']:,} not replayed"
        )
    if refused:
        raise SystemExit(1)


@letters.command()
@_filtered
@dir_option
@json_option
def discard(
    ids: tuple[str, ...],
    reasons: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Mark dead letters as done without counting them. They stay on the topic, and `list --all`
    shows them.
    """
    settings = kafka_settings(dir_)
    found = [a for a in _read(settings, _some(Filter(ids, reasons, since, until))) if a.resolved is None]
    _send(settings, Topic.DEAD_LETTERS, [_resolution(aside, Resolution.DISCARDED) for aside in found])
    if as_json:
        return print_json([{"id": aside.id, "outcome": Resolution.DISCARDED.value} for aside in found])
    return say(f"{len(found):,} discarded")


def _some(wanted: Filter) -> Filter:
    if not wanted.names_some:
        raise click.UsageError("say which: give IDs, or --reason, --since or --until")
    return wanted


def _read(settings: Settings, wanted: Filter) -> list[PutAside]:
    """The wanted dead letters, in the order in which they were put aside."""
    topic = DeadLetterTopic(settings)
    run(topic.read_to_end, settings)
    missing = [visible(id_) for id_ in wanted.ids if id_ not in topic.letters]
    if missing:
        raise click.ClickException(
            f"there is no dead letter {', '.join(missing)}; `spendmeter letters list --all` lists them"
        )
    return [aside for aside in topic.letters.values() if wanted.selects(aside)]


def _payloads(settings: Settings, asides: Sequence[PutAside]) -> list[DeadLetter]:
    """The dead letters with their payloads; a deleted one has none."""

    async def work() -> list[DeadLetter | None]:
        return [letter async for letter in fetch_dead_letters(settings, (aside.offset for aside in asides))]

    found = run(work, settings)
    return [letter or aside.letter for letter, aside in zip(found, asides, strict=True)]


def _wait_until_known(settings: Settings, wait_seconds: float) -> None:
    """Return once both groups have read everything that is now in spend.usage."""

    async def work() -> dict[str, int]:
        admin, reader = admin_client(settings), consumer(settings)
        await admin.start()
        await reader.start()
        try:
            described = await admin.describe_topics([settings.topic(Topic.USAGE)])
            numbers = [found["partition"] for found in described[0]["partitions"]]
            partitions = [TopicPartition(settings.topic(Topic.USAGE), number) for number in numbers]
            ends = await reader.end_offsets(partitions)
            found = {}
            for group, name in ((STREAM_GROUP, "the stream"), (SINK_GROUP, "the ClickHouse sink")):
                left = await wait_until_passed(admin, settings, group, ends, wait_seconds)
                if left:
                    found[name] = sum(ends[p] - max(at, 0) for p, at in left.items())
            return found
        finally:
            await reader.stop()
            await admin.close()

    late = run(work, settings)
    if late:
        said = ", ".join(f"{name} lacks {count:,} records" for name, count in late.items())
        raise click.ClickException(
            f"nothing was replayed: it is not known yet what counts already ({said} of spend.usage);"
            " `spendmeter status` says what runs; or give more --wait"
        )


def _replay(settings: ClickHouseSettings, asides: Sequence[PutAside]) -> Iterator[ReplayOutcome]:
    """Send what can be sent, and note the outcome of each dead letter."""
    now = datetime.now(UTC)
    payloads = _payloads(settings, asides)
    prepared = [_prepared(settings, *one, now) for one in zip(asides, payloads, strict=True)]
    copies = _copies(settings, [o.event for o in prepared if o.event is not None])
    outcomes = [
        o._replace(event=None, is_counted=True)
        if o.event is not None and is_counted(o.aside, copies.get(o.event.event_id, ()))
        else o
        for o in prepared
    ]
    _send(settings, Topic.USAGE, [encode_usage(o.event) for o in outcomes if o.event is not None])
    resolutions = [
        _resolution(o.aside, _resolved(o))
        for o in outcomes
        if (o.event or o.is_counted) and not _is_done(o.aside)
    ]
    _send(settings, Topic.DEAD_LETTERS, resolutions)
    yield from outcomes


def _resolved(outcome: ReplayOutcome) -> Resolution:
    return Resolution.COUNTED if outcome.is_counted else Resolution.REPLAYED


def _is_done(aside: PutAside) -> bool:
    """Whether an earlier replay already counts. A discarded one can still be replayed."""
    return aside.resolved is not None and aside.resolved.resolution is not Resolution.DISCARDED


def _prepared(settings: Settings, aside: PutAside, letter: DeadLetter, now: datetime) -> ReplayOutcome:
    if letter.source_topic != settings.topic(Topic.USAGE):
        return ReplayOutcome(
            aside, refusal="only records of spend.usage can be replayed; make the change again"
        )
    if _is_done(aside):
        return ReplayOutcome(aside, is_counted=True)
    try:
        return ReplayOutcome(aside, replay_of(letter, now, settings.read_signing_keys()))
    except NotReplayable as error:
        return ReplayOutcome(aside, refusal=str(error))


def _copies(settings: ClickHouseSettings, events: Sequence[UsageEvent]) -> dict[Any, list[HistoryCopy]]:
    if not events:
        return {}
    try:
        with history(settings) as client:
            return find_copies(client, settings.topic(Topic.USAGE), [event.event_id for event in events])
    except click.ClickException as error:
        raise click.ClickException(
            f"nothing was replayed: history does not say what counts already: {error.message}"
        ) from None


def _resolution(aside: PutAside, resolution: Resolution) -> Record:
    return encode_dead_letter(
        aside.letter.model_copy(
            update={
                **not_held(),
                "headers": {},
                "resolution": resolution,
                "resolved_at": datetime.now(UTC),
                "resolved_by": who(),
            }
        )
    )


def _send(settings: Settings, topic: Topic, records: Iterable[Record]) -> None:
    """Return once every in-sync replica has them."""
    waiting = list(records)
    if not waiting:
        return

    async def work() -> None:
        kafka = producer(settings)
        try:
            await kafka.start()
            sent = [await kafka.send(settings.topic(topic), **record._asdict()) for record in waiting]
            for one in sent:
                await one
        finally:
            await kafka.stop()

    run(
        work,
        settings,
        failed="Kafka did not acknowledge it",
        then="some may be stored all the same, and the same command again is safe",
    )


def _word(outcome: ReplayOutcome) -> str:
    return "refused" if outcome.refusal else "counted" if outcome.is_counted else "replayed"


def _data(aside: PutAside) -> dict[str, Any]:
    fields = aside.letter.model_dump(mode="json", exclude={"key", "payload", "encoding", "headers", "reader"})
    resolved = aside.resolved
    if resolved is not None:
        fields |= resolved.model_dump(mode="json", include={"resolution", "resolved_at", "resolved_by"})
    return {"id": aside.id, **fields, "readers": sorted(reader.value for reader in aside.readers if reader)}


def _line(aside: PutAside) -> str:
    letter, resolved = aside.letter, aside.resolved
    detail = visible(letter.detail)
    cut = detail if len(detail) <= MAX_DETAIL_CHARACTERS else detail[:MAX_DETAIL_CHARACTERS] + "…"
    done = f"  [{resolved.resolution} {clock(resolved.resolved_at)}]" if resolved is not None else ""
    return f"{clock(letter.failed_at)}  {letter.id}  {letter.reason}: {cut}{done}"
