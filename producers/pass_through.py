"""Which provider and model a pass-through request goes to, from its path and body. Pure.

LiteLLM judges and routes nothing there, and names both only in its log event.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from producers.exchange import Deployment
from producers.payload import text

_PROVIDERS: Mapping[str, str] = {
    "openai": "openai",
    "openai_passthrough": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "vertex_ai": "vertex_ai",
    "vertex-ai": "vertex_ai",
    "bedrock": "bedrock",
    "azure": "azure",
    "azure_ai": "azure_ai",
    "cohere": "cohere",
    "mistral": "mistral",
    "vllm": "vllm",
    "groq": "groq",
    "xai": "xai",
    "cursor": "cursor",
    "assemblyai": "assemblyai",
    "eu.assemblyai": "assemblyai",
}
"""LiteLLM's prefix of a pass-through path: its name of the provider."""
# .../models/gemini-2.5-pro:generateContent, .../model/anthropic.claude/converse, .../deployments/gpt-4o/...
_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|publishers/[^/]+/models)/([^/:]+)[:/]")


def deployment_at(path: str, body: Mapping[str, Any]) -> Deployment:
    """Where a pass-through request goes; empty names where neither path nor body says."""
    provider = next((_PROVIDERS[part] for part in path.split("/", 3)[1:3] if part in _PROVIDERS), "")
    found = _MODEL_IN_PATH.search(path)
    model = body.get("model")
    name = text(model) if isinstance(model, str) and model else unquote(found.group(1)) if found else ""
    return Deployment(name, name, provider)
