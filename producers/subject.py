"""Whom a request is for, as known before it is routed: the names that its usage event will bear."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from producers.payload import key_hash, mapping, session_among, tags, text_or_none
from spendmeter.contract.matching import Subject

NAMES_OF_A_CALLER = (
    "api_key",
    "key_alias",
    "is_session_token",
    "user_id",
    "team_id",
    "org_id",
    "project_id",
    "end_user_id",
)
"""Fields of LiteLLM's `UserAPIKeyAuth`: all that tells who asks."""


class Caller(NamedTuple):
    """Who asks, and by which name they are told so."""

    subject: Subject
    name: str
    """The key's alias, else its hash; without a key (JWT) the user, team, organization or end user."""
    alias: str | None = None
    """The key's alias, as its events name it."""


class Told(Struct, frozen=True):
    """What one request tells of whom it is for, as LiteLLM has it: unread, so cheap to take and compare."""

    model: object
    user: object
    session: object
    metadata_session: object
    litellm_metadata_session: object
    tags: tuple[object, ...]


def told_by(data: Mapping[str, Any], tag_headers: Iterable[str]) -> Told:
    """What a request's body tells; `tag_headers` are LiteLLM's `extra_spend_tag_headers`.

    Tags as LiteLLM derives them for its log event, from which mapping.py reads the same names, without
    those that it adds for user agents.
    """
    metadata, other = mapping(data.get("metadata")), mapping(data.get("litellm_metadata"))
    request = mapping(data.get("proxy_server_request"))
    given = metadata.get("tags") or other.get("tags")
    all_tags = tuple(given) if type(given) is list or isinstance(given, list | tuple) else ()
    if tag_headers:
        all_tags += _header_tags(mapping(request.get("headers")), tag_headers)
    return Told(
        data.get("model"),
        mapping(request.get("body")).get("user"),
        data.get("litellm_session_id"),
        metadata.get("session_id"),
        other.get("session_id"),
        all_tags,
    )


def who_asks(auth: Mapping[str, Any], gateway: str) -> Caller:
    """Who asks, from the fields of LiteLLM's `UserAPIKeyAuth`: the same for all requests of a key."""
    alias = text_or_none(auth.get("key_alias"))
    # LiteLLM logs a dashboard session under its alias, since its token changes with each login.
    key = key_hash(alias if auth.get("is_session_token") and alias else auth.get("api_key"))
    subject = Subject(
        key=key,
        user=text_or_none(auth.get("user_id")),
        team=text_or_none(auth.get("team_id")),
        organization=text_or_none(auth.get("org_id")),
        project=text_or_none(auth.get("project_id")),
        end_user=text_or_none(auth.get("end_user_id")),
        gateway=gateway,
    )
    named = (alias, key, subject.user, subject.team, subject.organization, subject.end_user)
    return Caller(subject, next((name for name in named if name), "none"), alias)


def caller_of(who: Caller, told: Told) -> Caller:
    """The caller of one request: who asks, and what the request tells."""
    of_key = who.subject
    subject = Subject(
        of_key.key,
        of_key.user,
        of_key.team,
        of_key.organization,
        of_key.project,
        of_key.end_user or text_or_none(told.user),
        tags(told.tags) if told.tags else (),
        None,
        text_or_none(told.model),
        None,
        session_among(told.session, told.metadata_session, told.litellm_metadata_session),
        of_key.gateway,
    )
    return Caller(subject, who.name, who.alias)


def _header_tags(headers: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name in names if (value := headers.get(name)))
