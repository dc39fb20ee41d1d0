"""LiteLLM's answer, seen on the request path, as the log event that it will become.

LiteLLM calls the log hooks after it has answered, behind its other callbacks: milliseconds later, or
seconds where one of them is slow. What it will log of an answer that was not streamed is known here
already, all but who pays, which authentication has said. So the rules that price the event price this.

Shapes measured on LiteLLM 1.106.2. Where anything may turn out otherwise in the log, the result here is
None: then the log event counts, as it does for streams.
"""

from collections.abc import Mapping
from typing import Any

from litellm.litellm_core_utils.core_helpers import reconstruct_model_name
from litellm.litellm_core_utils.litellm_logging import StandardLoggingPayloadSetup
from pydantic import BaseModel

from spendmeter_gateway.litellm.compat import has_custom_pricing, response_cost, usage_as_logged
from spendmeter_gateway.litellm.fields import mapping, part_of
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall, read_log_event

# Of these LiteLLM logs the model that was chosen, which is in the answer's text only.
_MODEL_ROUTERS = ("model_router", "model-router")


def answer_of(data: Mapping[str, Any], response: object) -> LoggedCall | None:
    """The call as LiteLLM will log it, but for who pays; None where that is not known yet.

    `data` is the request as the post-call hook has it.
    """
    log = data.get("litellm_logging_obj")
    details = mapping(getattr(log, "model_call_details", None))
    logged = mapping(details.get("standard_logging_object"))
    if logged.get("status") == "success":
        # Built already, and only the callbacks before ours hold it up. A failed attempt leaves one, too.
        return read_log_event(details)
    hidden = _hidden(response)
    if "api_call_start_time" not in details or hidden.get("cache_hit") is True or details.get("stream"):
        # Out of a cache, which costs nothing whatever `response_cost` says; or not LiteLLM's call at all.
        return None
    if "response_cost" in hidden:
        cost = hidden["response_cost"]
    elif isinstance(response, dict):
        # /v1/messages: LiteLLM itself calls this for its header with the cost.
        cost = response_cost(log, response)
    else:
        return None
    payload = _payload(details, response, cost)
    if any(name in payload["model"] for name in _MODEL_ROUTERS):
        return None
    if not cost:
        payload["model_map_information"] = _listed(log, details, response)
    return read_log_event(
        {**details, "standard_logging_object": payload, "response_cost": cost, "cache_hit": None}
    )


def _hidden(response: object) -> Mapping[str, Any]:
    """What LiteLLM notes of an answer: a dict, or on text completions a model of its own."""
    hidden = getattr(response, "_hidden_params", None)
    return dict(hidden) if isinstance(hidden, BaseModel) else mapping(hidden)


def _payload(details: Mapping[str, Any], response: object, cost: object) -> dict[str, Any]:
    params = mapping(details.get("litellm_params"))
    provider, call_id = details.get("custom_llm_provider"), details.get("litellm_call_id")
    usage = usage_as_logged(response)
    deployment = {"deployment": _in_metadata(params, "deployment")}
    return {
        "status": "success",
        "id": part_of(response, "id") or call_id,
        "litellm_call_id": call_id or params.get("litellm_call_id"),
        "call_type": details.get("call_type") or "",
        "response_cost": cost or 0.0,
        "custom_llm_provider": provider,
        "model": reconstruct_model_name(details.get("model") or "", provider, deployment),
        "model_group": _in_metadata(params, "model_group"),
        "model_id": mapping(_in_metadata(params, "model_info")).get("id"),
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
        "metadata": {"usage_object": usage},
        "response": {"data": part_of(response, "data")},
        "model_parameters": mapping(details.get("optional_params")),
    }


def _listed(log: Any, details: Mapping[str, Any], response: object) -> Any:
    """What LiteLLM's price list says: whether a cost of zero can be true."""
    params = mapping(details.get("litellm_params"))
    return StandardLoggingPayloadSetup.get_model_cost_information(
        base_model=_in_metadata(params, "deployment"),
        custom_pricing=has_custom_pricing(log, params, response),
        custom_llm_provider=details.get("custom_llm_provider"),
        init_response_obj=response,
        api_base=params.get("api_base"),
        router_model_id=log.get_router_model_id(),
    )


def _in_metadata(params: Mapping[str, Any], name: str) -> Any:
    """Of the two metadata, LiteLLM prefers `metadata`."""
    found = mapping(params.get("metadata")).get(name)
    return mapping(params.get("litellm_metadata")).get(name) if found is None else found
