"""Keys that were seen before: who each is, and the budgets that LiteLLM showed with it. No I/O.

All that a key's owner and budgets follow from is read at once and compared with the request before: if it
is equal, nothing is computed anew. Values are compared, not objects: LiteLLM hands over a new but equal
object with each request. What differs each time, its spend, is not compared.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import litellm

from spendmeter_gateway.adoption import Adopter
from spendmeter_gateway.gateway import ERRORS
from spendmeter_gateway.litellm.admission.budgets import (
    Around,
    CachedObject,
    cached_objects_of_key,
    cached_objects_of_request,
    lookup,
    memory_of,
    seen_of_key,
    seen_of_request,
    shown_by,
)
from spendmeter_gateway.litellm.fields import fields_of, mapping
from spendmeter_gateway.litellm.request.caller import RequestFields, caller_of, request_fields, who_asks
from spendmeter_gateway.model import ACCEPTED, Caller, ClientValues

log = logging.getLogger(__name__)

# When full, clear it: an LRU costs more than reading keys anew.
MAX_KEYS_REMEMBERED = 50_000

_Found = list[tuple[object, ...] | None]


class Request(NamedTuple):
    """One request of a key."""

    fields: RequestFields
    caller: Caller
    objects: Sequence[CachedObject]


class Key:
    """One key, as it was last shown, and its latest request."""

    __slots__ = ("noted", "objects", "request", "shown", "who")

    def __init__(self, shown: tuple[object, ...], who: Caller) -> None:
        self.shown, self.who = shown, who
        self.objects = cached_objects_of_key(who.subject)
        self.request: Request | None = None
        self.noted: tuple[int, Around, _Found] | None = None
        """What the adopter noted last: its edition, LiteLLM's settings, and the objects in memory."""


class KeyCache:
    """Finds who asks, and hands what is new of LiteLLM's budgets to the adopter. Any thread may call."""

    def __init__(self, adopter: Adopter, gateway: str, client_values: ClientValues = ACCEPTED) -> None:
        self.adopter, self._gateway = adopter, gateway
        self.client_values = client_values
        self._keys: dict[object, Key] = {}

    def key(self, auth: Mapping[str, Any]) -> Key:
        """The key that asks, by the fields of LiteLLM's `UserAPIKeyAuth`."""
        shown = shown_by(auth)
        name = auth.get("api_key")
        key = self._keys.get(name)
        if key is None or key.shown != shown:
            if len(self._keys) >= MAX_KEYS_REMEMBERED:
                self._keys.clear()
            key = self._keys[name] = Key(shown, who_asks(auth, self._gateway))
        return key

    def request(self, key: Key, fields: RequestFields) -> Request:
        """What the key asks for now."""
        latest = key.request
        if latest is not None and latest.fields == fields:
            return latest
        caller = caller_of(key.who, fields, self.client_values)
        key.request = request = Request(fields, caller, cached_objects_of_request(caller.subject))
        return request

    def note_budgets(
        self, key: Key, request: Request, auth: Mapping[str, Any], cache: object, around: Around
    ) -> None:
        """Adopt the budgets that LiteLLM shows with a request."""
        if not self.adopter.is_on:
            return
        memory = memory_of(cache)
        found = (self.adopter.edition, around, lookup(memory, key.objects))
        if found != key.noted:
            seen = seen_of_key(auth, memory, key.who.subject, around)
            key.noted = found if self.adopter.note(seen) else None
        for place in request.objects:
            if place.name in memory:
                self.adopter.note(seen_of_request(memory, request.caller.subject, around))
                return


def request_of(keys: KeyCache, auth: object, cache: object, data: Mapping[str, Any]) -> Request:
    """Who asks for what. The budgets that LiteLLM shows with the request are adopted as well."""
    fields = fields_of(auth)
    key = keys.key(fields)
    # Not as attributes: for one that is not set, LiteLLM searches all that it can load, each time.
    settings = vars(litellm)
    request = keys.request(
        key, request_fields(data, settings.get("extra_spend_tag_headers") or (), keys.client_values)
    )
    try:
        keys.note_budgets(key, request, fields, cache, _around(settings))
    except Exception:
        ERRORS.labels("adoption").inc()
        log.exception("LiteLLM's budgets could not be seen")
    return request


def _around(settings: Mapping[str, Any]) -> Around:
    """What the configuration says by now: LiteLLM's `settings`, and the proxy's."""
    general = mapping(getattr(sys.modules.get("litellm.proxy.proxy_server"), "general_settings", None))
    return Around(
        settings.get("timezone") or "UTC",
        settings.get("max_budget") or None,
        settings.get("budget_duration"),
        general.get("apply_user_budget_to_team_keys") is True,
    )
