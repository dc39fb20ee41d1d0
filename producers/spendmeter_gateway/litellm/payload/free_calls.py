"""Which calls cost nothing by their nature: free is not unpriced. Pure.

What is free makes no event, no alert and no flat amount where it used no tokens and LiteLLM reports no cost.
"""

import re
from urllib.parse import urlsplit

# Calls that read or manage what an earlier call made and billed (LiteLLM #17814, #25015).
_MANAGEMENT_CALL = re.compile(
    r"a?_?(get|list|retrieve|delete|cancel|create|update|modify|upload|add)_(?!(video|interaction)\b)\w+"
    r"|a?(file|vector_store|vector_store_file|video)_(create|list|retrieve|update|delete|content|get|status)\w*"
)
_FREE_CALL = re.compile(r"a?moderation|call_mcp_tool|list_mcp_tools|a?count_tokens|a?token_count\w*")
_MAY_HAVE_A_PRICE = ("call_mcp_tool",)
_PASS_THROUGH_CALL = re.compile(r"pass_through_endpoint|a?llm_passthrough_route")
_READING_METHODS = ("GET", "HEAD", "OPTIONS", "DELETE")
# What a provider's API has beside its models; a POST to them stores, counts or checks something.
_FREE_RESOURCE = re.compile(
    r"(models|files|batches|uploads|moderations|vector_stores|assistants|threads|fine_tuning|containers|skills"
    r"|conversations|evals|cachedContents|cached_contents|corpora|tunedModels|operations|organizations?|usage)"
)
_FREE_VERB = re.compile(r"countTokens|computeTokens|count_tokens|input_tokens|tokenize|detokenize|cancel")
_MODEL_VERB = re.compile(r"runs|responses|completions|search")
"""Under a resource that is free by itself, what makes a model answer."""


def is_management_call(call_type: str) -> bool:
    """Whether a call only reads or manages what another made and billed."""
    return _MANAGEMENT_CALL.fullmatch(call_type) is not None


def is_free_call(call_type: str, *, method: str = "", url: str = "") -> bool:
    """Whether a call costs nothing unless tokens or a cost say otherwise.

    `method` and `url` are those of a pass-through request, and needed to judge one.
    """
    if is_management_call(call_type) or _FREE_CALL.fullmatch(call_type):
        return True
    return bool(_PASS_THROUGH_CALL.fullmatch(call_type)) and is_free_path(method, url)


def is_free_beforehand(call_type: str, *, method: str = "", url: str = "") -> bool:
    """Whether a call is sure to cost nothing before it is made: an MCP tool may have a price."""
    return call_type not in _MAY_HAVE_A_PRICE and is_free_call(call_type, method=method, url=url)


def is_free_path(method: str, url: str) -> bool:
    """Whether a request to a provider's own API calls no model."""
    if method.upper() in _READING_METHODS:
        return True
    try:
        path = urlsplit(url).path
    except ValueError:
        return False
    parts = [part for part in path.split("/") if part]
    if not parts:
        return False
    # Gemini names a method behind a colon: `/models/gemini-2.5-pro:countTokens`.
    last, _, verb = parts[-1].partition(":")
    if verb:
        return _FREE_VERB.fullmatch(verb) is not None
    if _FREE_VERB.fullmatch(last):
        return True
    return any(map(_FREE_RESOURCE.fullmatch, parts)) and not any(map(_MODEL_VERB.fullmatch, parts))
