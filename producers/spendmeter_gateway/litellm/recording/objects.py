"""Objects of providers in LiteLLM's hooks: who makes one is noted, who reads it finished brings its bill."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from spendmeter.contract.provider_object import object_event_id
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.litellm.fields import mapping, text, text_or_none
from spendmeter_gateway.litellm.models import listed_prices
from spendmeter_gateway.litellm.payload import provider_objects as objects
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall
from spendmeter_gateway.litellm.payload.provider_objects import Sighting
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Caller, Deployment, UsageDraft

log = logging.getLogger(__name__)

MAKER_WITHIN_SECONDS = 3.0
"""How long a bill waits to know whom to charge: until all that gateways have published by now is read."""


def decrypt(response_id: str) -> str:
    """LiteLLM's encrypted response id to what it holds; any other id as it is."""
    if not response_id.startswith("resp_"):
        return response_id
    try:
        found: str = _security()._decrypt_response_id(response_id)[0]
    except Exception:
        # Another version of LiteLLM, or a program without its proxy: there ids are not encrypted.
        return response_id
    return found


@lru_cache(maxsize=1)
def _security() -> Any:
    from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity

    return ResponsesIDSecurity()


class Bill(NamedTuple):
    """What a call on an object comes to."""

    is_due: bool
    """Whether the object has a bill of its own; else the call is billed as any other."""
    draft: UsageDraft | None
    """None where this call is not the one to bill it."""


def note_made(gateway: Gateway, caller: Caller, data: Mapping[str, Any], response: object) -> None:
    """Note who made the object that a request was answered with, if it was one."""
    log_of_it = data.get("litellm_logging_obj")
    call_type = text(getattr(log_of_it, "call_type", None))
    if not objects.makes(call_type):
        return
    details = mapping(getattr(log_of_it, "model_call_details", None))
    seen = objects.made_by(
        call_type,
        text(details.get("custom_llm_provider")),
        response,
        is_background=data.get("background") is True,
        decrypt=decrypt,
    )
    if seen is not None:
        group = text(_model_group(data) or caller.subject.model_group)
        fields = caller.event_fields | {"model_group": group}
        read_as = "" if seen.is_finished else decrypt(text(getattr(response, "id", None)))
        gateway.objects.made(objects.maker_of(seen, fields, datetime.now(UTC), gateway.name, read_as))


async def bill_of(
    gateway: Gateway,
    seen: Sighting,
    caller: Caller | None,
    deployment: Deployment | None,
    logged: LoggedCall,
    finished_at: datetime,
) -> Bill:
    """What a log event that shows an object comes to; `caller` and `deployment` are the call's, if known.

    Where the maker is not known here it waits: another gateway may just have published it.
    """
    is_due = objects.is_to_be_billed(seen, None)
    if is_due and not seen.is_made and seen.is_finished and gateway.objects.maker(seen.object_id) is None:
        if gateway.has_recorded(object_event_id(seen.object_id)):
            return Bill(True, None)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(MAKER_WITHIN_SECONDS):
                await gateway.objects_read()
    return bill_now(gateway, seen, caller, deployment, logged, finished_at)


def bill_now(
    gateway: Gateway,
    seen: Sighting,
    caller: Caller | None,
    deployment: Deployment | None,
    logged: LoggedCall,
    finished_at: datetime,
) -> Bill:
    """The same by what is known here now."""
    made = gateway.objects.maker(seen.object_id)
    if not objects.is_to_be_billed(seen, made):
        return Bill(False, None)
    draft = usage_of(
        logged,
        event_id=object_event_id(seen.object_id),
        occurred_at=finished_at,
        listed=listed_prices,
        is_bill=True,
    )
    if draft is None:
        return Bill(True, None)
    fields = {**draft.fields}
    if caller is not None:
        fields |= caller.event_fields
    if deployment is not None and deployment.model:
        fields |= {"model": deployment.model, "provider": deployment.provider or fields["provider"]}
    if seen.is_made:
        # Of a stream, whose answer was seen by no hook before; any other is known already.
        now = datetime.now(UTC)
        is_billed = objects.bill_of(draft, seen, None, now) is not None
        read_as = "" if is_billed else decrypt(logged.response_id)
        gateway.objects.made(objects.maker_of(seen, fields | {"model": ""}, now, gateway.name, read_as))
        made = gateway.objects.maker(seen.object_id)
    elif made is None:
        # LiteLLM routes a read by the deployment's id and logs that as the model that was requested.
        fields["model_group"] = logged.deployment_name
    return Bill(True, objects.bill_of(draft._replace(fields=fields), seen, made, datetime.now(UTC)))


def _model_group(data: Mapping[str, Any]) -> str | None:
    found = (mapping(data.get(name)).get("model_group") for name in ("litellm_metadata", "metadata"))
    return next((text_or_none(one) for one in found if one), None)
