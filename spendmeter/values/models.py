"""Names of models: one for each model of a provider, on every route. Pure.

LiteLLM logs a model with the name in its configuration (`openai/gpt-4o`), or with that of a pass-through
route (`gpt-4o`). The prefixes are those that `litellm.get_llm_provider` strips, and those that its handlers
strip after them: the interface and the region of the call.
"""

import re
from functools import lru_cache

# Prefixes other than the provider's own that a configuration may use for its models.
_ALSO_CALLED = {
    "anthropic_text": ("anthropic",),
    "azure_text": ("azure",),
    "cohere": ("cohere_chat",),
    "cohere_chat": ("cohere",),
    "text-completion-codestral": ("codestral",),
    "text-completion-openai": ("openai",),
    "vertex_ai": ("vertex_ai_beta",),
    "vertex_ai_beta": ("vertex_ai",),
    "watsonx_text": ("watsonx",),
}
_BEDROCK_ROUTES = (
    "async_invoke",
    "chat_completions",
    "claude_platform",
    "converse",
    "converse_like",
    "invoke",
    "mantle",
    "openai",
)
# A provider's interfaces. `responses` is LiteLLM's own, before any model.
_ROUTES = {
    "azure": ("gpt5_series", "o_series", "responses"),
    "azure_ai": ("responses",),
    "bedrock": _BEDROCK_ROUTES,
    "openai": ("responses",),
}
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_MAX_REMEMBERED = 10_000


def canonical_model(model: str, provider: str) -> str:
    """The model's one name: without the provider's prefix, interface and region.

    The rest is the provider's own name, which may contain slashes. Applying the function again changes
    nothing. A model with an unknown provider keeps its name.

    >>> canonical_model("openai/gpt-4o", "openai")
    'gpt-4o'
    >>> canonical_model("openrouter/openai/gpt-4o", "openrouter")
    'openai/gpt-4o'
    >>> canonical_model("bedrock/converse/us-west-2/anthropic.claude-v2", "bedrock")
    'anthropic.claude-v2'
    >>> canonical_model("meta-llama/Llama-3.3-70B-Instruct", "huggingface")
    'meta-llama/Llama-3.3-70B-Instruct'
    """
    return _stripped(model, provider) if "/" in model and provider else model


@lru_cache(_MAX_REMEMBERED)
def _stripped(model: str, provider: str) -> str:
    prefixes = prefixes_of(provider) + _ROUTES.get(provider, ())
    while True:
        head, _, rest = model.partition("/")
        is_region = provider == "bedrock" and _REGION.fullmatch(head) is not None
        if not rest or not (is_region or head in prefixes):
            return model
        model = rest


def prefixes_of(provider: str) -> tuple[str, ...]:
    """The prefixes before a slash that mark a model as that provider's."""
    return (provider, *_ALSO_CALLED.get(provider, ()))


def names_of_model(model: str, provider: str) -> tuple[str, ...]:
    """Every name by which a budget or a price may select the model: its one name, then with a prefix."""
    if not model:
        return ()
    name = canonical_model(model, provider)
    return (name, *(f"{prefix}/{name}" for prefix in prefixes_of(provider))) if provider else (name,)


def selected_model(wanted: str) -> str:
    """A budget's value for `model`, or glob, as it is compared with `names_of_model`.

    >>> selected_model("bedrock/converse/anthropic.*")
    'bedrock/anthropic.*'
    """
    head, slash, _ = wanted.partition("/")
    return (
        f"{head}/{canonical_model(wanted, head)}"
        if slash and canonical_model(wanted, head) != wanted
        else wanted
    )
