"""Incarnations: of which spend.usage history holds rows, and which of them go on where another stood. Pure.

Rows of usage carry the incarnation of their topic. What goes on where another incarnation stood (a topic
made anew, another prefix, another cluster) opens its accounts with what history has of those before it.
That one follows another is an operator's decision (`spendmeter move`), written down in ClickHouse: without
it two systems in one database could not be distinguished from one system that moved.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_EARLIER = 1_000
"""Incarnations that one may follow, directly or not."""


class UsageIncarnation(NamedTuple):
    """One incarnation of spend.usage."""

    topic: str
    incarnation: str
    """Kafka's id of the topic; empty where rows of usage name none."""

    def __str__(self) -> str:
        return f"{self.topic} (id {self.incarnation})" if self.incarnation else self.topic


@dataclass(frozen=True, slots=True)
class Registered:
    """An incarnation that history is of."""

    of: UsageIncarnation
    follows: UsageIncarnation | None
    """The one whose accounts it goes on with."""
    has_unnamed: bool = False
    """The topic's rows that name no incarnation are of this one."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the accounts of one system rest on: its own incarnation, and those that it follows."""

    current: tuple[UsageIncarnation, ...]
    """The names of its own rows: two, where some of them name no incarnation."""
    earlier: tuple[UsageIncarnation, ...] = ()

    @property
    def is_of_it(self) -> str:
        """As a condition on rows of usage and usage_objects: they are of this incarnation."""
        return _within(self.current)

    @property
    def is_of_all(self) -> str:
        """As a condition: rows of this incarnation or of an earlier one."""
        return _within((*self.current, *self.earlier))

    @property
    def is_from(self) -> str:
        """As a condition on dead letters: their records stood in one of these topics."""
        topics = dict.fromkeys(one.topic for one in (*self.current, *self.earlier))
        return f"source_topic IN ({', '.join(map(_text, topics))})"

    @property
    def is_earlier(self) -> str:
        """As a condition: rows of an earlier incarnation."""
        return _within(self.earlier) if self.earlier else "0"


class UnknownIncarnation(Exception):
    """History holds rows, and nobody has said that those of this topic go on with them."""


def whole_topic(topic: str) -> Lineage:
    """All rows of a topic, whatever they name: where nothing is known of incarnations."""
    return Lineage((UsageIncarnation(topic, ""),))


def settle(
    of: UsageIncarnation, known: Sequence[Registered], unnamed: Collection[str], goes_on: bool, database: str
) -> Registered:
    """The entry of this incarnation: the one that is there, or one that needs nobody's decision.

    `unnamed`: topics whose rows name no incarnation. `goes_on`: a version before offsets carried one has
    committed offsets of this very topic, so those rows are its own.

    Raises:
        UnknownIncarnation: history is of others.
    """
    for one in known:
        if one.of == of:
            return one
    is_claimed = any(one.of.topic == of.topic and one.has_unnamed for one in known)
    if of.topic in unnamed and goes_on and not is_claimed:
        return Registered(of, None, has_unnamed=True)
    if not known and not unnamed:
        return Registered(of, None, has_unnamed=goes_on)
    others = ", ".join(map(str, latest(known) or [UsageIncarnation(topic, "") for topic in sorted(unnamed)]))
    raise UnknownIncarnation(
        f"not ready, nothing is stored: history in database {database} is of {others}, and {of} is another"
        " topic, made anew or in another cluster or under another prefix. `spendmeter move` says that it goes"
        " on where that one stood; a system of its own needs a database of its own"
        " (SPENDMETER_CLICKHOUSE_DATABASE)"
    )


def latest(known: Sequence[Registered]) -> list[UsageIncarnation]:
    """Those that no other one follows."""
    followed = {one.follows for one in known}
    return [one.of for one in known if one.of not in followed]


def lineage_of(of: UsageIncarnation, known: Sequence[Registered]) -> Lineage:
    """What an incarnation rests on, by the entries there are; one without an entry is its whole topic."""
    by_name: Mapping[UsageIncarnation, Registered] = {
        **{UsageIncarnation(one.of.topic, ""): one for one in known if one.has_unnamed},
        **{one.of: one for one in known},
    }
    one = by_name.get(of)
    if one is None:
        return whole_topic(of.topic)
    current, earlier = _names(one), list[UsageIncarnation]()
    seen = {of}
    while one.follows is not None and one.follows not in seen and len(seen) <= MAX_EARLIER:
        seen.add(one.follows)
        # Of before there were entries: its rows name none.
        one = by_name.get(one.follows, Registered(one.follows, None))
        earlier += _names(one)
    return Lineage(current, tuple(name for name in earlier if name not in current))


def lineage_of_topic(topic: str, known: Sequence[Registered]) -> Lineage:
    """As `lineage_of`, of the latest incarnation of that name: where Kafka is not asked."""
    named = [one.of for one in known if one.of.topic == topic]
    return lineage_of(named[-1], known) if named else whole_topic(topic)


def _names(one: Registered) -> tuple[UsageIncarnation, ...]:
    return (
        (one.of, UsageIncarnation(one.of.topic, "")) if one.has_unnamed and one.of.incarnation else (one.of,)
    )


def _within(names: Sequence[UsageIncarnation]) -> str:
    if len(names) == 1 and not names[0].incarnation:
        # Without incarnations a topic's rows are all of it.
        return f"topic = {_text(names[0].topic)}"
    pairs = ", ".join(f"({_text(one.topic)}, {_text(one.incarnation)})" for one in names)
    return f"(topic, incarnation) IN ({pairs})"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
