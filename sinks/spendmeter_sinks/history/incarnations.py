"""Incarnations: which incarnations of spend.usage history covers, and which one continues which. Pure.

Rows of usage carry the incarnation of their topic. An incarnation that continues another (a topic
created anew, another prefix, another cluster) opens its accounts with what history has of the earlier ones.
An operator decides that one follows another (`spendmeter move`), and ClickHouse records it: otherwise
two systems in one database could not be distinguished from one system that moved.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_EARLIER = 1_000
"""How many incarnations one may follow, directly or not."""


class UsageIncarnation(NamedTuple):
    """One incarnation of spend.usage."""

    topic: str
    incarnation: str
    """Kafka's id of the topic; empty if rows of usage name none."""

    def __str__(self) -> str:
        return f"{self.topic} (id {self.incarnation})" if self.incarnation else self.topic


@dataclass(frozen=True, slots=True)
class Registered:
    """An incarnation that history covers."""

    of: UsageIncarnation
    follows: UsageIncarnation | None
    """The incarnation whose accounts it continues."""
    has_unnamed: bool = False
    """Whether the topic's rows without an incarnation belong to this one."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The basis of a system's accounts: its own incarnation, and those that it follows."""

    current: tuple[UsageIncarnation, ...]
    """The names of its own rows: two if some of them name no incarnation."""
    earlier: tuple[UsageIncarnation, ...] = ()

    @property
    def is_of_it(self) -> str:
        """Condition on usage and usage_objects: rows of this incarnation."""
        return _within(self.current)

    @property
    def is_of_all(self) -> str:
        """Condition: rows of this incarnation or of an earlier one."""
        return _within((*self.current, *self.earlier))

    @property
    def is_from(self) -> str:
        """Condition on dead letters: their records came from one of these topics."""
        topics = dict.fromkeys(one.topic for one in (*self.current, *self.earlier))
        return f"source_topic IN ({', '.join(map(_text, topics))})"

    @property
    def is_earlier(self) -> str:
        """Condition: rows of an earlier incarnation."""
        return _within(self.earlier) if self.earlier else "0"


class UnknownIncarnation(Exception):
    """History holds rows, and nobody has decided that this topic continues them."""


def whole_topic(topic: str) -> Lineage:
    """All rows of a topic, whatever incarnation they name: for use where incarnations are unknown."""
    return Lineage((UsageIncarnation(topic, ""),))


def settle(
    of: UsageIncarnation, known: Sequence[Registered], unnamed: Collection[str], goes_on: bool, database: str
) -> Registered:
    """The entry of this incarnation: the existing one, or one that needs no decision.

    `unnamed`: topics whose rows name no incarnation. `goes_on`: a version without incarnations has
    committed offsets of this very topic, so those rows are its own.

    Raises:
        UnknownIncarnation: history belongs to others.
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
        f"not ready, nothing is stored: history in database {database} belongs to {others}, and {of} is"
        " another topic, created anew or in another cluster or under another prefix. If it continues that"
        " one, run `spendmeter move`; a separate system needs a database of its own"
        " (SPENDMETER_CLICKHOUSE_DATABASE)"
    )


def latest(known: Sequence[Registered]) -> list[UsageIncarnation]:
    """The incarnations that no other one follows."""
    followed = {one.follows for one in known}
    return [one.of for one in known if one.of not in followed]


def lineage_of(of: UsageIncarnation, known: Sequence[Registered]) -> Lineage:
    """An incarnation's lineage according to the entries; without an entry, it is the whole topic."""
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
        # From before there were entries: its rows name no incarnation.
        one = by_name.get(one.follows, Registered(one.follows, None))
        earlier += _names(one)
    return Lineage(current, tuple(name for name in earlier if name not in current))


def lineage_of_topic(topic: str, known: Sequence[Registered]) -> Lineage:
    """Like `lineage_of`, for the latest incarnation of that name: for use without Kafka."""
    named = [one.of for one in known if one.of.topic == topic]
    return lineage_of(named[-1], known) if named else whole_topic(topic)


def _names(one: Registered) -> tuple[UsageIncarnation, ...]:
    return (
        (one.of, UsageIncarnation(one.of.topic, "")) if one.has_unnamed and one.of.incarnation else (one.of,)
    )


def _within(names: Sequence[UsageIncarnation]) -> str:
    if len(names) == 1 and not names[0].incarnation:
        # Without incarnations all rows of the topic belong to it.
        return f"topic = {_text(names[0].topic)}"
    pairs = ", ".join(f"({_text(one.topic)}, {_text(one.incarnation)})" for one in names)
    return f"(topic, incarnation) IN ({pairs})"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
