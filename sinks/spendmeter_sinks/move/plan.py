"""The plan of a move: which topics continue which, and the steps. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from spendmeter_sinks.history.incarnations import Registered, UsageIncarnation, latest

TO_BE_MADE = "to be made"
"""The id of a topic that does not exist yet."""


class CannotMove(Exception):
    """Nothing can be planned; the message names the reason and what to give."""


@dataclass(frozen=True, slots=True)
class Site:
    """A system's topics, as people name them."""

    bootstrap: str
    prefix: str
    usage: UsageIncarnation
    partitions: int

    def __str__(self) -> str:
        return f"{self.usage} on {self.bootstrap}, {self.partitions} partitions"


@dataclass(frozen=True, slots=True)
class MovePlan:
    """Everything that `--apply` does, and what the operator has to do."""

    database: str
    target: Site
    source: Site | None
    """None if its Kafka cannot be reached any more."""
    follows: UsageIncarnation
    entries: tuple[Registered, ...]
    """Entries to write into the table `incarnations`, except the target's own."""
    is_registered: bool
    """Whether the target already has its entry."""
    topics: tuple[str, ...] = ()
    """Topics to create."""
    budgets: tuple[str, ...] = ()
    """Budgets to copy."""
    budgets_from: str = "history"
    objects: int | None = None
    """Makers of objects to copy; None if they cannot be read."""
    behind: int | None = None
    """Records of the source that history does not have yet; None if its Kafka cannot be reached."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_registered and not (self.topics or self.budgets or self.objects or self.entries)


def decide(
    known: Sequence[Registered],
    unnamed: Collection[str],
    source: UsageIncarnation | None,
    goes_on: bool,
    target: UsageIncarnation,
    chosen: str | None = None,
) -> tuple[UsageIncarnation, list[Registered]]:
    """The incarnation that the target follows, and the entries to register first.

    `source`: the present system's topic, if its Kafka can be reached. `goes_on`: a sink of a
    version without incarnations has read that very topic. `chosen`: the topic to follow.

    Raises:
        CannotMove: history holds nothing, or several systems, and none is chosen.
    """
    for one in known:
        if one.of == target and one.follows is not None:
            return one.follows, []
    if source is not None and source != target and chosen is None:
        entry = _entry_of(source, known, unnamed, goes_on)
        if entry is not None:
            return source, [] if entry in known else [entry]
    ends = [
        of
        for of in latest(known) or [UsageIncarnation(topic, "") for topic in sorted(unnamed)]
        if of != target
    ]
    if chosen is not None:
        ends = [of for of in ends if of.topic == chosen]
    if len(ends) == 1:
        return ends[0], []
    if not ends:
        which = f"of {chosen}" if chosen else "of any other system"
        raise CannotMove(f"history holds nothing {which}: there is nothing to continue")
    names = ", ".join(map(str, ends))
    raise CannotMove(
        f"history belongs to several systems ({names}): choose the one to continue with --from TOPIC"
    )


def _entry_of(
    source: UsageIncarnation, known: Sequence[Registered], unnamed: Collection[str], goes_on: bool
) -> Registered | None:
    """The source's entry, existing or new; None if history does not know its topic."""
    for one in known:
        if one.of == source:
            return one
    is_claimed = any(one.of.topic == source.topic and one.has_unnamed for one in known)
    if goes_on and source.topic in unnamed and not is_claimed:
        return Registered(source, None, has_unnamed=True)
    # A topic of the same name was created anew: its records continue those of the earlier one.
    before = [of for of in latest(known) if of.topic == source.topic]
    if not before and source.topic in unnamed:
        before = [UsageIncarnation(source.topic, "")]
    return Registered(source, before[-1]) if before else None
