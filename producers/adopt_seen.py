"""Budgets as LiteLLM shows them to the callback: on the key that asks, and in its memory. Pure.

Auth reads the objects of a request before the hook is called, and keeps each in memory under a name
of its own (1.106.2). What is not there is not asked for: no request waits for LiteLLM's database
because of us.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from producers.payload import mapping
from spendmeter.contract.matching import Subject
from spendmeter.litellm_seen import LIMITS, Kind, Seen, from_metadata


class Around(NamedTuple):
    """What LiteLLM's configuration says that a limit depends on."""

    timezone: str = "UTC"
    """`litellm_settings.timezone`."""
    max_budget: float | None = None
    """`litellm_settings.max_budget`: the proxy's own."""
    budget_duration: str | None = None
    users_pay_for_teams: bool = False
    """`general_settings.apply_user_budget_to_team_keys`."""


def seen_by(auth: object, cache: object, subject: Subject, around: Around) -> Iterator[Seen]:
    """Every object of a request that has, or might have, a budget in LiteLLM."""
    memory = _memory(cache)
    timezone = around.timezone
    if around.max_budget:
        yield Seen(
            "proxy",
            (),
            max_budget=around.max_budget,
            budget_duration=around.budget_duration,
            timezone=timezone,
        )
    if subject.key and not getattr(auth, "is_session_token", False):
        yield _key(auth, subject.key, timezone)
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
    if subject.end_user:
        found = memory.get(f"end_user_id:{subject.end_user}")
        yield from _tabled("end_user", (subject.end_user,), found, timezone)
    for tag in subject.tags:
        yield from _tabled("tag", (tag,), memory.get(f"tag:{tag}"), timezone)


def _key(auth: object, key: str, timezone: str) -> Seen:
    metadata = mapping(getattr(auth, "metadata", None))
    return Seen(
        "key",
        (key,),
        **_limits(auth),
        **from_metadata(metadata),
        # LiteLLM adds a key's increase to the limit that it hands on.
        temp_budget_increase=metadata.get("temp_budget_increase"),
        temp_budget_expiry=metadata.get("temp_budget_expiry"),
        is_raised=True,
        timezone=timezone,
        alias=_text(auth, "key_alias"),
    )


def _team(auth: object, found: object, team: str, timezone: str) -> Seen:
    metadata = getattr(auth, "team_metadata", None) or _of(found, "metadata")
    return Seen(
        "team",
        (team,),
        **_limits(found),
        **from_metadata(mapping(metadata)),
        shows_limits=found is not None,
        timezone=timezone,
        alias=_text(auth, "team_alias"),
    )


def _user(found: object, user: str, around: Around) -> Iterator[Seen]:
    """A user's limit, where it means the same here: LiteLLM leaves out what the user spends through teams."""
    if found is None or _of(found, "user_role") is None:
        return
    taken_over = from_metadata(mapping(_of(found, "metadata")))["taken_over"]
    is_ours = around.users_pay_for_teams or not _of(found, "teams")
    limits = _limits(found) | {"taken_over": taken_over} if is_ours else {}
    yield Seen("user", (user,), **limits, timezone=around.timezone)


def _tabled(kind: Kind, names: tuple[str, ...], found: object, timezone: str) -> Iterator[Seen]:
    """An object whose limits stand in LiteLLM's budget table."""
    if found is None:
        return
    table = _of(found, "litellm_budget_table")
    if kind == "end_user" and _of(found, "budget_id") is None:
        # The default of all end users: one budget for each name that a client thinks of would have no bound.
        table = None
    taken_over = from_metadata(mapping(_of(found, "metadata")))["taken_over"]
    yield Seen(
        kind,
        names,
        **_limits(table),
        temp_budget_increase=_of(table, "temp_budget_increase"),
        temp_budget_expiry=_of(table, "temp_budget_expiry"),
        taken_over=taken_over,
        timezone=timezone,
    )


def _limits(found: object) -> dict[str, Any]:
    # Every request comes by here, and of most objects nothing is in memory.
    if found is None:
        return {}
    if isinstance(found, Mapping):
        return {name: found.get(name) for name in LIMITS}
    return {name: getattr(found, name, None) for name in LIMITS}


def _of(found: object, name: str) -> Any:
    if found is None:
        return None
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)


def _text(found: object, name: str) -> str:
    value = getattr(found, name, None)
    return value if isinstance(value, str) else ""


def _memory(cache: object) -> Mapping[str, Any]:
    return mapping(getattr(getattr(cache, "in_memory_cache", None), "cache_dict", None))
