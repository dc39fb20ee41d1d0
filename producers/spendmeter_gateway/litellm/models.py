"""What LiteLLM's router, its prices and the price book say of the deployments that may serve a request."""

import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import litellm

from spendmeter.prices.book import ModelNames as PricedModel
from spendmeter.prices.book import PriceBook, PriceEntry
from spendmeter_gateway.admission.cost_bound import (
    IMAGE_TOKENS,
    IMAGE_TOKENS_OF_GPT_4O_MINI,
    Model,
    femtousd,
    prices_in,
)
from spendmeter_gateway.litellm.fields import (
    mapping,
    metadata_of_the_proxy,
    request_metadata,
    tags,
    text,
    text_or_none,
)
from spendmeter_gateway.litellm.payload.pass_through import PROVIDERS
from spendmeter_gateway.litellm.payload.prices import PRICE_NAMES
from spendmeter_gateway.model import Deployment
from spendmeter_gateway.pricing.price_draft import bounding_prices

# Prices and deployments can be changed while the proxy runs.
_KNOWN_FOR_SECONDS = 10.0
_MAX_KNOWN = 1_000
# Our counter is OpenAI's of 2023; its later ones make fewer of most texts, everybody else's may make more.
_TOKENS_PER_COUNTED = {"openai": Decimal("1.1"), "azure": Decimal("1.1")}
_TOKENS_PER_COUNTED_ELSEWHERE = Decimal(2)
_UPLIFTS = (
    "regional_processing_uplift_multiplier_eu",
    "regional_processing_uplift_multiplier_us",
    "regional_endpoint_uplift_multiplier",
)

# .../models/gemini-2.5-pro:generateContent, .../model/anthropic.claude/converse, .../deployments/gpt-4o/...
_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|publishers/[^/]+/models)/([^/:]+)[:/]")

_known: dict[tuple[str, str | None], tuple[float, tuple[Model, ...]]] = {}


def the_router() -> Any:
    """The proxy's router, set once it has read its configuration; None in a program without a proxy."""
    return getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)


def deployments_of(router: Any, model_group: str, team: str | None) -> list[Mapping[str, Any]]:
    """Every deployment that the router may send a request of that model to."""
    if router is None:
        return []
    return list(router.get_model_list(model_name=model_group, team_id=team) or ())


def models_of(
    router: Any, model_group: str | None, team: str | None, book: PriceBook | None
) -> tuple[Model, ...]:
    """The same, as what bounds a cost; without a router, the model itself. Empty where there is none."""
    if not model_group:
        return ()
    now = time.monotonic()
    known = _known.get((model_group, team))
    if known is not None and known[0] > now:
        return known[1]
    deployments = deployments_of(router, model_group, team)
    if not deployments and router is None:
        deployments = [{"litellm_params": {"model": model_group}}]
    models = tuple(model_of(router, one, model_group, book) for one in deployments)
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known[model_group, team] = now + _KNOWN_FOR_SECONDS, models
    return models


def model_of(router: Any, deployment: Mapping[str, Any], model_group: str, book: PriceBook | None) -> Model:
    """One deployment; without prices where neither LiteLLM nor the book knows them."""
    params, info = mapping(deployment.get("litellm_params")), mapping(deployment.get("model_info"))
    listed = _listed(router, deployment, model_group)
    prices = prices_in(listed, info, params)
    is_custom = any(isinstance(of.get(name), int | float) for of in (info, params) for name in PRICE_NAMES)
    if not is_custom and not any(prices.values()):
        # LiteLLM has a stub of zeros for each model that it does not know.
        prices = {}
    name, provider = named(deployment)
    entry = _entry(book, PricedModel(provider, name, model_group))
    if entry is not None and (entry.override or not prices):
        # As price_draft.py will: what the book says is all that the request costs.
        prices = bounding_prices(entry)
    percent, fixed_usd = _margin(provider)
    uplift = max([1.0, *(of for field in _UPLIFTS if isinstance(of := listed.get(field), int | float))])
    return Model(
        prices,
        _limit(params, info, listed, "max_input_tokens"),
        _limit(params, info, listed, "max_output_tokens"),
        IMAGE_TOKENS_OF_GPT_4O_MINI if "gpt-4o-mini" in name else IMAGE_TOKENS,
        _TOKENS_PER_COUNTED.get(provider, _TOKENS_PER_COUNTED_ELSEWHERE),
        Decimal(repr(uplift)) * (1 + Decimal(repr(percent))),
        femtousd(fixed_usd),
    )


def _entry(book: PriceBook | None, model: PricedModel) -> PriceEntry | None:
    return None if book is None else book.find(model, datetime.now(UTC))


def deployment_of(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The deployment that a call's arguments were made of."""
    return {"litellm_params": kwargs, "model_info": mapping(kwargs.get("model_info"))}


def model_group_of(kwargs: Mapping[str, Any]) -> str | None:
    """The model as requested, or as the router fell back to: what it wrote, before what a client wrote."""
    metadata, other = request_metadata(kwargs)
    written = (metadata, other) if metadata_of_the_proxy(kwargs) == "metadata" else (other, metadata)
    return next((group for one in written if isinstance(group := one.get("model_group"), str)), None)


def deployment_called(kwargs: Mapping[str, Any]) -> Deployment:
    """Where a call goes, from the arguments that LiteLLM makes it with.

    The group is the deployment's own name in the router, whatever the request called it: an alias, the
    deployment's id, the provider's name of the model. Where that is a wildcard it is what was requested.
    """
    model, provider = named({"litellm_params": kwargs})
    deployment_id = text_or_none(mapping(kwargs.get("model_info")).get("id"))
    configured = deployment_by_id(deployment_id)
    group = _group_of(configured)
    if not group or "*" in group:
        group = model_group_of(kwargs) or model
    return Deployment(
        text(group),
        model,
        provider,
        deployment_id,
        tags(mapping(configured.get("litellm_params")).get("tags")),
    )


def deployment_in_router(deployment: Mapping[str, Any]) -> Deployment:
    """The same of a deployment that the router may choose."""
    model, provider = named(deployment)
    deployment_id = text_or_none(mapping(deployment.get("model_info")).get("id"))
    configured_tags = tags(mapping(deployment.get("litellm_params")).get("tags"))
    return Deployment(_group_of(deployment), model, provider, deployment_id, configured_tags)


def deployment_at(path: str, body: Mapping[str, Any]) -> Deployment:
    """Where a pass-through request goes; empty names where neither path nor body says."""
    provider = next((PROVIDERS[part] for part in path.split("/", 3)[1:3] if part in PROVIDERS), "")
    found = _MODEL_IN_PATH.search(path)
    model = body.get("model")
    name = text(model) if isinstance(model, str) and model else unquote(found.group(1)) if found else ""
    return Deployment(name, name, provider)


def is_list_of_models(data: Mapping[str, Any], call_type: str) -> bool:
    """Whether a chat names several models, and each is called."""
    model = data.get("model")
    return call_type in ("completion", "acompletion") and isinstance(model, str) and "," in model


def deployment_by_id(deployment_id: str | None) -> Mapping[str, Any]:
    """The deployment as the router has it: found by its id, which no client can put on a call."""
    router = the_router()
    index = getattr(router, "model_id_to_deployment_index_map", None)
    place = index.get(deployment_id) if isinstance(index, dict) else None
    if place is None:
        return {}
    found = router.model_list[place]
    return mapping(found if isinstance(found, dict) else found.model_dump())


def _group_of(configured: Mapping[str, Any]) -> str:
    """A team's own model has a name that its team knows, and one that no other group has."""
    public = mapping(configured.get("model_info")).get("team_public_model_name")
    return text(public or configured.get("model_name"))


def named(deployment: Mapping[str, Any]) -> tuple[str, str]:
    """The model and the provider of a deployment, as its usage events will name them.

    LiteLLM logs the model as the configuration has it where that names the provider.
    """
    params = mapping(deployment.get("litellm_params"))
    model = str(params.get("model") or "")
    try:
        name, provider, _, _ = litellm.get_llm_provider(
            model=model,
            custom_llm_provider=params.get("custom_llm_provider"),
            api_base=params.get("api_base"),
        )
    except Exception:  # LiteLLM raises its own BadRequestError for a provider that it does not know
        return model, ""
    if "/" not in model:
        model = f"bedrock/{name}" if provider == "bedrock" else str(name)
    return model, str(provider)


def listed_prices(provider: str, model: str) -> Mapping[str, Any]:
    """LiteLLM's prices of a model by its name; empty where its list has none or nobody says whose it is."""
    if not provider:
        return {}
    bare = model.removeprefix(f"{provider}/")
    for name in (f"{provider}/{bare}", bare):
        found = mapping(litellm.model_cost.get(name))
        if found and provider in str(found.get("litellm_provider")):
            return found
    return {}


def _listed(router: Any, deployment: Mapping[str, Any], model_group: str) -> Mapping[str, Any]:
    try:
        if router is not None:
            return mapping(
                router.get_router_model_info(deployment=deployment, received_model_name=model_group)
            )
        return mapping(litellm.get_model_info(model_group))
    except Exception:  # a bare Exception is what LiteLLM raises for a model that is not in its map
        return {}


def _limit(
    params: Mapping[str, Any], info: Mapping[str, Any], listed: Mapping[str, Any], name: str
) -> int | None:
    for source in (params, info, listed):
        value = source.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _margin(provider: str) -> tuple[float, float]:
    """LiteLLM's `cost_margin_config`: a share of the cost, and USD per request."""
    configured: Any = litellm.cost_margin_config
    margin = configured.get(provider, configured.get("global"))
    if isinstance(margin, Mapping):
        return max(0.0, float(margin.get("percentage", 0))), float(margin.get("fixed_amount", 0))
    return (max(0.0, float(margin)), 0.0) if isinstance(margin, int | float) else (0.0, 0.0)


def forget() -> None:
    """Ask LiteLLM again: its configuration has changed."""
    _known.clear()
