"""`custom_auth` of the proxies in the matrix: who has which key, and with which budget, is in a file."""

import json
import os
from pathlib import Path
from typing import Any

import litellm
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

KEYS = "MATRIX_KEYS"
"""Names the file: key to the fields of UserAPIKeyAuth. Read at each request, as a database would be."""
SPENT_NATIVELY = "sk-spent-natively"
"""What LiteLLM itself does with a spent budget: to compare ours with."""


async def user_api_key_auth(request: Any, api_key: str) -> UserAPIKeyAuth:
    if api_key == os.environ["LITELLM_MASTER_KEY"]:
        return UserAPIKeyAuth(api_key=api_key, user_role=LitellmUserRoles.PROXY_ADMIN)
    if api_key == SPENT_NATIVELY:
        raise litellm.BudgetExceededError(current_cost=2.0, max_budget=1.0)
    fields = _keys().get(api_key)
    if fields is None:
        raise ProxyException(message="unknown key", type="auth_error", param=None, code=401)
    return UserAPIKeyAuth(api_key=api_key, **fields)


def _keys() -> dict[str, dict[str, Any]]:
    keys: dict[str, dict[str, Any]] = json.loads(Path(os.environ[KEYS]).read_text())
    return keys
