"""Guardrails that block a request whose prompt has their word: before, during or after the call."""

import asyncio
import json
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail

from tests.adversary.markers import AFTER, BEFORE, DURING

UNTIL_THE_CALL_HAS_BEGUN_SECONDS = 0.1


def _block(data: Any, word: str) -> None:
    texts = [data.get(name) for name in ("messages", "input", "prompt", "contents", "query")]
    if word in json.dumps(texts, default=str):
        raise HTTPException(status_code=400, detail={"error": f"blocked: {word}"})


class Before(CustomGuardrail):  # type: ignore[misc]
    async def async_pre_call_hook(
        self, user_api_key_dict: object, cache: object, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        _block(data, BEFORE)
        return data


class During(CustomGuardrail):  # type: ignore[misc]
    async def async_moderation_hook(
        self, data: dict[str, Any], user_api_key_dict: object, call_type: str
    ) -> None:
        # The call runs beside it.
        await asyncio.sleep(UNTIL_THE_CALL_HAS_BEGUN_SECONDS)
        _block(data, DURING)


class After(CustomGuardrail):  # type: ignore[misc]
    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: object, response: object
    ) -> None:
        _block(data, AFTER)
