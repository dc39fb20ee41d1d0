"""What stays open under a spent budget: calls that no provider bills.

Checked only when a request would be refused, so it costs an admitted one nothing. Whatever is not known to be
free is judged. A model is free by the operator's word alone: the router's deployments and the price book,
never what a body says of a price. Each call to a deployment is judged again when it is made (fallbacks).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from spendmeter.prices.book import PriceBook
from spendmeter_gateway.admission.cost_bound import Model
from spendmeter_gateway.litellm.fields import mapping
from spendmeter_gateway.litellm.models import deployment_by_id, deployments_of, model_of
from spendmeter_gateway.model import Deployment


class Served(NamedTuple):
    """One deployment that a model's name may lead to."""

    model: Model
    """Its prices in force, the price book's included."""
    configured: Mapping[str, Any]
    """As the router has it."""


ServedBy = Callable[[str], Sequence[Served]]
"""Every deployment that may serve a model of that name; empty where there is none."""

MAX_MODELS = 20
"""A longer list of models is judged."""

_PASS_THROUGH = frozenset({"pass_through_endpoint", "llm_passthrough_route", "allm_passthrough_route"})
# Of LiteLLM's pass-through routes. On one of the operator's own, a GET may be what is billed: judged.
_PROVIDERS = frozenset({
    "anthropic", "assemblyai", "azure", "azure_ai", "bedrock", "cohere", "eu.assemblyai", "gemini",
    "gigachat", "mistral", "openai", "openai_passthrough", "openrouter", "vertex-ai", "vertex_ai", "vllm",
    "watsonx",
})  # fmt: skip
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Reads that call models. The probes below /health (liveliness, readiness, …) only check the proxy itself.
_CALLING_READS = frozenset({"/health", "/health/services", "/health/test_connection"})
# What a provider could read as another path than we do is judged.
_PLAIN_PATH = re.compile(r"(/[\w.~@:=,+-]+)+/?")
_COUNTS = ("count_tokens", "input_tokens", "token_counter", "transform_request")
_CANCELS = re.compile(
    r"(/v1beta\d?)?/(\w+/)*(batches|responses|jobs|runs|interactions|batchpredictionjobs)/[^/]+/cancel",
    re.IGNORECASE,
)
_UPLOADS = re.compile(r"(/[\w-]+)?(/v1)?/files", re.IGNORECASE)

_MANAGES = re.compile(
    r"a?_?(get|list|retrieve|delete|cancel)_\w+"
    r"|a?(file|video|vector_store|vector_store_file|batch)_(list|retrieve|retrieve_job|delete|content|status)"
    r"|a?video_get_character"
)
_OTHER_FREE_TYPES = frozenset({
    "acreate_file", "create_file", "acreate_thread", "create_thread", "a_add_message", "add_message",
    "acreate_assistants", "create_assistants", "list_mcp_tools",
})  # fmt: skip
_MODERATIONS = frozenset({"moderation", "amoderation"})


def is_free(call_type: str, method: str, path: str, data: Mapping[str, Any], served_by: ServedBy) -> bool:
    """Whether a request may be served though its budget is spent.

    `call_type` is LiteLLM's; `method` and `path` are the HTTP request's, `method` empty for a websocket;
    `data` is the body as LiteLLM has read it. Names what is read and cancelled (a batch, a file, a response),
    what is counted (tokens), and models all of whose prices are zero.
    """
    if is_free_route(call_type, method, path) or is_free_type(call_type):
        return True
    if call_type in _PASS_THROUGH:
        # There `model` is the provider's, whatever the router calls by that name.
        return False
    names = _models_in(data.get("model")) or ()
    if call_type in _MODERATIONS:
        return is_free_at(call_type, [served for name in names for served in served_by(name)])
    return bool(names) and all(is_free_at(call_type, served_by(name)) for name in names)


def is_free_at(call_type: str, deployments: Sequence[Served]) -> bool:
    """Whether a call of that type bills nothing at any of these deployments."""
    if call_type in _MODERATIONS:
        # OpenAI's, which bills none, unless somebody has set a price.
        return not any(map(_bills, deployments))
    return is_free_type(call_type) or are_free(deployments)


def is_free_type(call_type: str) -> bool:
    """Whether calls of this type bill nothing by themselves, whatever the model: reads, cancels, uploads.

    For events as well: what such a call reads may have been billed by the call that made it.
    """
    return call_type in _OTHER_FREE_TYPES or _MANAGES.fullmatch(call_type) is not None


def is_free_route(call_type: str, method: str, path: str) -> bool:
    """Whether what is read, deleted, cancelled or counted there bills nothing, by method and path alone."""
    if not method or _PLAIN_PATH.fullmatch(path) is None or ".." in path:
        return False
    path = path.rstrip("/")
    last = path.rpartition("/")[2]
    is_passed_through = call_type in _PASS_THROUGH
    if is_passed_through and path.split("/")[1].lower() not in _PROVIDERS:
        return False
    if method in _READS or method == "DELETE":
        # A verb after a colon is Google's way to call something.
        return path not in _CALLING_READS and ":" not in last
    if method != "POST":
        return False
    return (
        last in _COUNTS
        or last.endswith(":countTokens")
        or _CANCELS.fullmatch(path) is not None
        or (_UPLOADS.fullmatch(path) is not None and not is_passed_through)
    )


def are_free(deployments: Sequence[Served]) -> bool:
    """Whether every one of these has prices and all of them are zero, those that bound no cost as well."""
    return bool(deployments) and all(bool(one.model.prices) and not _bills(one) for one in deployments)


def _bills(served: Served) -> bool:
    model = served.model
    return any(model.prices.values()) or model.surcharge_femtousd > 0 or _names_a_price(served.configured)


def _names_a_price(configured: Mapping[str, Any]) -> bool:
    """Whether any price is above zero, whatever its unit: a page, an hour of reserved capacity, a search."""
    return any(
        _is_positive(value)
        for part in ("litellm_params", "model_info")
        for name, value in mapping(configured.get(part)).items()
        if "cost" in str(name) or "pric" in str(name)
    )


def _is_positive(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_is_positive(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_is_positive(inner) for inner in value)
    if isinstance(value, bool):
        return False
    try:
        # YAML reads 1e-6 as text.
        return float(value) > 0  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _models_in(model: object) -> list[str] | None:
    """The names that LiteLLM would call: a list, or names between commas. None where that is unclear."""
    if isinstance(model, str):
        names = [name.strip() for name in model.split(",", MAX_MODELS)]
    elif isinstance(model, list) and all(isinstance(name, str) for name in model):
        names = list(model)
    else:
        return None
    return names if 0 < len(names) <= MAX_MODELS and all(names) else None


def served_by(router: Any, model_group: str, team: str | None, book: PriceBook | None) -> Sequence[Served]:
    """Every deployment that the router may send a request of that model to; empty without a router."""
    return [
        Served(model_of(router, one, model_group, book), one)
        for one in deployments_of(router, model_group, team)
    ]


def served_at(router: Any, deployment: Deployment, book: PriceBook | None) -> Sequence[Served]:
    """The deployment that a call goes to, as the router has it; the call's arguments may name other prices.

    Empty where the router has none of that id.
    """
    found = deployment_by_id(deployment.id)
    return [Served(model_of(router, found, deployment.model_group, book), found)] if found else []
