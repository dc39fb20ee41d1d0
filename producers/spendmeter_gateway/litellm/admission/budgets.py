"""Budgets as LiteLLM shows them to the callback: on the key that asks, and in its memory. Pure.

Authentication reads the objects of a request before the hook is called, and keeps each in memory under a
name of its own (1.106.2). What is not there stays unknown: no request waits for LiteLLM's database
because of us.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import Struct

from spendmeter.domain.matching import Subject
from spendmeter.litellm.entities import (
    LIMITS,
    METADATA_BUDGET,
    TAKEN_OVER,
    Kind,
    LitellmEntity,
    from_metadata,
    key_seen,
    limits_of,
    tabled_seen,
    user_seen,
)
from spendmeter_gateway.litellm.fields import fields_of, mapping
from spendmeter_gateway.litellm.request.caller import NAMES_OF_A_CALLER, own_tags

_OF_A_KEY = (*NAMES_OF_A_CALLER, *LIMITS)
_read_key: Callable[[Mapping[str, Any]], tuple[object, ...]] = itemgetter(*_OF_A_KEY)
_OF_METADATA = (METADATA_BUDGET, TAKEN_OVER, "temp_budget_increase", "temp_budget_expiry")
_OF_A_TABLE = (*LIMITS, "temp_budget_increase", "temp_budget_expiry")


class Around(Struct, frozen=True):
    """What LiteLLM's configuration says that a limit depends on."""

    timezone: str = "UTC"
    """`litellm_settings.timezone`."""
    max_budget: float | None = None
    """`litellm_settings.max_budget`: the proxy's own."""
    budget_duration: str | None = None
    users_pay_for_teams: bool = False
    """`general_settings.apply_user_budget_to_team_keys`."""


Reader = Callable[[object], tuple[object, ...]]


class CachedObject(NamedTuple):
    """Where LiteLLM's memory has an object, if it has, and all that is read of it."""

    name: str
    read: Reader


def shown_by(auth: Mapping[str, Any]) -> tuple[object, ...]:
    """All that is read of a key. What changes with each request, its spend, is not among it."""
    try:
        values = _read_key(auth)
    except KeyError:
        # Another version of LiteLLM's lacks some of them.
        values = tuple(map(auth.get, _OF_A_KEY))
    for name in ("metadata", "team_metadata"):
        metadata = mapping(auth.get(name))
        if not metadata.keys().isdisjoint(_OF_METADATA):
            values = (*values, name, *map(metadata.get, _OF_METADATA))
    tags = own_tags(auth)
    return (*values, tags) if tags else values


def cached_objects_of_key(subject: Subject) -> list[CachedObject]:
    """Where the objects are whose budgets all requests of a key fall under."""
    objects = []
    if subject.team:
        objects.append(CachedObject(f"team_id:{subject.team}", _read_limited))
        if subject.user:
            objects.append(CachedObject(f"team_membership:{subject.user}:{subject.team}", _read_tabled))
    if subject.user:
        objects.append(CachedObject(subject.user, _read_limited))
    if subject.organization:
        objects.append(CachedObject(f"org_id:{subject.organization}:with_budget", _read_tabled))
    if subject.project:
        objects.append(CachedObject(f"project_id:{subject.project}", _read_tabled))
    return objects


def cached_objects_of_request(subject: Subject) -> list[CachedObject]:
    """Where the objects are that one request of a key names."""
    objects = [CachedObject(f"tag:{tag}", _read_tabled) for tag in subject.tags]
    return (
        [*objects, CachedObject(f"end_user_id:{subject.end_user}", _read_tabled)]
        if subject.end_user
        else objects
    )


def lookup(memory: Mapping[str, Any], objects: Iterable[CachedObject]) -> list[tuple[object, ...] | None]:
    """All that is read of these objects; None of those that are not there."""
    return [None if (found := memory.get(name)) is None else read(found) for name, read in objects]


def seen_of_key(
    auth: Mapping[str, Any], memory: Mapping[str, Any], subject: Subject, around: Around
) -> Iterator[LitellmEntity]:
    """Those that all requests of a key fall under; these follow from `shown_by`, `lookup`, `around`."""
    timezone = around.timezone
    if around.max_budget:
        yield LitellmEntity(
            "proxy",
            (),
            max_budget=around.max_budget,
            budget_duration=around.budget_duration,
            timezone=timezone,
        )
    if subject.key and not auth.get("is_session_token"):
        yield key_seen(auth, subject.key, timezone, is_raised=True)
    if subject.team:
        yield _team(auth, memory.get(f"team_id:{subject.team}"), subject.team, timezone)
        if subject.user:
            membership = memory.get(f"team_membership:{subject.user}:{subject.team}")
            yield from _tabled("member", (subject.team, subject.user), membership, timezone)
    if subject.user:
        yield from _user(memory.get(subject.user), subject.user, around)
    if subject.organization:
        found = memory.get(f"org_id:{subject.organization}:with_budget")
        yield from _tabled("organization", (subject.organization,), found, timezone)
    if subject.project:
        yield from _tabled(
            "project", (subject.project,), memory.get(f"project_id:{subject.project}"), timezone
        )


def seen_of_request(memory: Mapping[str, Any], subject: Subject, around: Around) -> Iterator[LitellmEntity]:
    """Those that one request of a key names."""
    if subject.end_user:
        found = memory.get(f"end_user_id:{subject.end_user}")
        yield from _tabled("end_user", (subject.end_user,), found, around.timezone)
    for tag in subject.tags:
        yield from _tabled("tag", (tag,), memory.get(f"tag:{tag}"), around.timezone)


def memory_of(cache: object) -> Mapping[str, Any]:
    """What LiteLLM's auth keeps in memory, by names of its own."""
    return mapping(getattr(getattr(cache, "in_memory_cache", None), "cache_dict", None))


def _team(auth: Mapping[str, Any], found: object, team: str, timezone: str) -> LitellmEntity:
    fields, alias = fields_of(found), auth.get("team_alias")
    return LitellmEntity(
        "team",
        (team,),
        **limits_of(fields),
        **from_metadata(mapping(auth.get("team_metadata") or fields.get("metadata"))),
        shows_limits=found is not None,
        timezone=timezone,
        alias=alias if isinstance(alias, str) else "",
    )


def _user(found: object, user: str, around: Around) -> Iterator[LitellmEntity]:
    fields = fields_of(found)
    if fields.get("user_role") is not None:
        yield user_seen(fields, user, around.timezone, users_pay_for_teams=around.users_pay_for_teams)


def _tabled(kind: Kind, names: tuple[str, ...], found: object, timezone: str) -> Iterator[LitellmEntity]:
    """An object whose limits stand in LiteLLM's budget table."""
    if found is None:
        return
    fields = fields_of(found)
    table = fields.get("litellm_budget_table")
    if kind == "end_user" and fields.get("budget_id") is None:
        # The default of all end users: one budget for each name that a client thinks of would have no bound.
        table = None
    taken_over = from_metadata(mapping(fields.get("metadata")))["taken_over"]
    yield tabled_seen(kind, names, fields_of(table), timezone, taken_over)


def _read_limited(found: object) -> tuple[object, ...]:
    """Of a team or user."""
    fields = fields_of(found)
    metadata = mapping(fields.get("metadata"))
    return (
        *map(fields.get, LIMITS),
        *map(metadata.get, _OF_METADATA),
        fields.get("user_role") is None,
        bool(fields.get("teams")),
    )


def _read_tabled(found: object) -> tuple[object, ...]:
    fields = fields_of(found)
    table, metadata = fields_of(fields.get("litellm_budget_table")), mapping(fields.get("metadata"))
    return (
        *map(table.get, _OF_A_TABLE),
        *map(metadata.get, _OF_METADATA),
        fields.get("budget_id") is None,
    )
