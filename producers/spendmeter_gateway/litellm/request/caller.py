"""Whom a request is for, as known before it is routed: the names that its usage event will bear."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from spendmeter.domain.matching import Subject
from spendmeter_gateway.exchange import Exchange
from spendmeter_gateway.litellm.fields import (
    MAX_TAGS,
    fields_of,
    first_text,
    key_hash,
    mapping,
    scalar,
    tags,
    text,
    text_or_none,
)
from spendmeter_gateway.model import ACCEPTED, Aliases, Caller, ClientValues

END_USER, TAGS, SESSION = "end user", "tags", "session"

NAMES_OF_A_CALLER = (
    "api_key", "key_alias", "is_session_token", "user_id", "team_id", "org_id", "project_id", "end_user_id",
    "user_email", "team_alias", "organization_alias", "project_alias",
)  # fmt: skip
"""Fields of LiteLLM's `UserAPIKeyAuth`: all that says who asks."""


_NO_TAGS: tuple[str, ...] = ()


class RequestFields(Struct, frozen=True):
    """What one request says of whom it is for, as LiteLLM has it: names only, so cheap to compare."""

    model: object
    user: object
    session: object
    metadata_session: object
    litellm_metadata_session: object
    tags: tuple[str, ...]
    end_users: tuple[object, ...] = ()
    """Whatever else LiteLLM may read an end user from; read only where those are ignored."""


def request_fields(
    data: Mapping[str, Any], tag_headers: Iterable[str], values: ClientValues = ACCEPTED
) -> RequestFields:
    """What a request's body says; `tag_headers` are LiteLLM's `extra_spend_tag_headers`.

    Tags as LiteLLM derives them for its log event, without those that it adds for user agents. On
    /v1/messages and /v1/responses `metadata` is the client's and `litellm_metadata` LiteLLM's: both count.
    """
    metadata, other = mapping(data.get("metadata")), mapping(data.get("litellm_metadata"))
    request = mapping(data.get("proxy_server_request"))
    body = mapping(request.get("body"))
    in_headers = _header_tags(mapping(request.get("headers")), tag_headers) if tag_headers else _NO_TAGS
    given, more = metadata.get("tags"), other.get("tags")
    return RequestFields(
        scalar(data.get("model")),
        scalar(body.get("user")),
        scalar(data.get("litellm_session_id")),
        scalar(metadata.get("session_id")),
        scalar(other.get("session_id")),
        tags(more, given, in_headers) if given or more or in_headers else _NO_TAGS,
        _end_users(data, body, request) if values.end_user == "ignore" else (),
    )


def own_tags(auth: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags that an administrator gave to key, team and project: no request can add to or hide them."""
    key, team = mapping(auth.get("metadata")), mapping(auth.get("team_metadata"))
    project = mapping(auth.get("project_metadata"))
    if "tags" not in key and "tags" not in team and "tags" not in project:
        return _NO_TAGS
    return tags(key.get("tags"), team.get("tags"), project.get("tags"))


def who_asks(auth: Mapping[str, Any], gateway: str) -> Caller:
    """Who asks, from the fields of LiteLLM's `UserAPIKeyAuth`: the same for all requests of a key.

    Its own tags are among it.
    """
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
        tags=own_tags(auth),
        gateway=gateway,
    )
    named = (alias, key, subject.user, subject.team, subject.organization, subject.end_user)
    aliases = Aliases(
        user_email=text_or_none(auth.get("user_email")),
        team_alias=text_or_none(auth.get("team_alias")),
        organization_alias=text_or_none(auth.get("organization_alias")),
        project_alias=text_or_none(auth.get("project_alias")),
    )
    return Caller(subject, next((name for name in named if name), "none"), alias, aliases)


def payer_of(exchange: Exchange, gateway: str) -> Caller | None:
    """Who pays for an exchange; where no request of it was admitted, authentication alone says so."""
    if exchange.caller is None and exchange.auth is not None:
        exchange.caller = who_asks(fields_of(exchange.auth), gateway)
    return exchange.caller


def caller_of(who: Caller, fields: RequestFields, values: ClientValues = ACCEPTED) -> Caller:
    """The caller of one request: who asks, and what the request says. Own tags come first."""
    of_key = who.subject
    of_client = fields.tags if values.tags != "ignore" else _NO_TAGS
    end_user = of_key.end_user
    if values.end_user == "ignore":
        # LiteLLM's `end_user_id` is what the request says, unless a token or the operator's own
        # authentication says it. Which of the two it was shows only in the request.
        end_user = None if end_user in _said(fields) else end_user
    elif end_user is None:
        end_user = text_or_none(fields.user)
    subject = Subject(
        key=of_key.key,
        user=of_key.user,
        team=of_key.team,
        organization=of_key.organization,
        project=of_key.project,
        end_user=end_user,
        tags=_joined(of_key.tags, of_client) if of_client else of_key.tags,
        model_group=text_or_none(fields.model),
        session=None if values.session == "ignore" else _session(fields),
        gateway=of_key.gateway,
    )
    return Caller(subject, who.name, who.alias, who.aliases)


def missing(caller: Caller, fields: RequestFields, values: ClientValues) -> tuple[str, ...]:
    """The names that a request must bring and does not, for the refusal to say."""
    if values is ACCEPTED or "require" not in values:
        return ()
    subject = caller.subject
    return tuple(
        name
        for name, rule, found in (
            (TAGS, values.tags, fields.tags),
            (END_USER, values.end_user, subject.end_user),
            (SESSION, values.session, subject.session),
        )
        if rule == "require" and not found
    )


def _session(fields: RequestFields) -> str | None:
    return first_text((fields.session, fields.metadata_session, fields.litellm_metadata_session))


def _joined(own: tuple[str, ...], of_client: tuple[str, ...]) -> tuple[str, ...]:
    """Each once; if they are too many, it is the client's that go."""
    return tuple(dict.fromkeys(own + of_client))[:MAX_TAGS] if own else of_client


def _said(fields: RequestFields) -> frozenset[str | None]:
    return frozenset(map(text_or_none, (fields.user, *fields.end_users)))


def _end_users(
    data: Mapping[str, Any], body: Mapping[str, Any], request: Mapping[str, Any]
) -> tuple[object, ...]:
    """All that LiteLLM may read an end user from: any header may be configured to be one."""
    places = (data.get("user"), body.get("safety_identifier"), data.get("safety_identifier"))
    within = [mapping(of.get(name)) for of in (data, body) for name in ("metadata", "litellm_metadata")]
    more = [metadata.get(name) for metadata in within for name in ("user", "user_id")]
    headers = mapping(request.get("headers")).values()
    return tuple(found for value in (*places, *more, *headers) if (found := scalar(value)) is not None)


def _header_tags(headers: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name in names if (value := text(headers.get(name))))
