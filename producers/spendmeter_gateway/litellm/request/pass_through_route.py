"""Where a pass-through request goes, from its path and body: LiteLLM says so in its log event only. Pure."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from spendmeter_gateway.litellm.payload.fields import text
from spendmeter_gateway.litellm.payload.pass_through import PROVIDERS
from spendmeter_gateway.model import Deployment

# .../models/gemini-2.5-pro:generateContent, .../model/anthropic.claude/converse, .../deployments/gpt-4o/...
_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|publishers/[^/]+/models)/([^/:]+)[:/]")


def deployment_at(path: str, body: Mapping[str, Any]) -> Deployment:
    """Where a pass-through request goes; empty names where neither path nor body says."""
    provider = next((PROVIDERS[part] for part in path.split("/", 3)[1:3] if part in PROVIDERS), "")
    found = _MODEL_IN_PATH.search(path)
    model = body.get("model")
    name = text(model) if isinstance(model, str) and model else unquote(found.group(1)) if found else ""
    return Deployment(name, name, provider)
