"""Whom a request is for, as known before it is routed: the names that its usage event will bear."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from producers.payload import key_hash, mapping, session_of, tags, text_or_none
from spendmeter.contract.matching import Subject


class Caller(NamedTuple):
    """Who asks, and by which name they are told so."""

    subject: Subject
    name: str
    """The key's alias, else its hash."""


def caller_of(auth: object, data: Mapping[str, Any], *, request_tags: list[str], gateway: str) -> Caller:
    """The caller of a request, from LiteLLM's `UserAPIKeyAuth` and the request's body.

    `request_tags` are as LiteLLM derives them for its log event, from which mapping.py reads the
    same names.
    """

    def given(name: str) -> str | None:
        return text_or_none(getattr(auth, name, None))

    alias = given("key_alias")
    # LiteLLM logs a dashboard session under its alias, since its token changes with each login.
    logged = alias if getattr(auth, "is_session_token", False) and alias else getattr(auth, "api_key", None)
    key = key_hash(logged)
    body = mapping(mapping(data.get("proxy_server_request")).get("body"))
    subject = Subject(
        key=key,
        user=given("user_id"),
        team=given("team_id"),
        organization=given("org_id"),
        project=given("project_id"),
        end_user=given("end_user_id") or text_or_none(body.get("user")),
        tags=tags(request_tags),
        model_group=text_or_none(data.get("model")),
        session=session_of(data),
        gateway=gateway,
    )
    return Caller(subject, alias or key or "none")
