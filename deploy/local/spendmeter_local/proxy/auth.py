"""LiteLLM's `custom_auth` for a proxy without a database: the master key and the keys of the key store.

Import this module as an installed package, never by its file: LiteLLM runs a file again for
each name in the configuration, and each copy would have its own key store.
"""

import hmac
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from litellm.constants import LITELLM_PROXY_ADMIN_NAME, LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy._types import LitellmUserRoles, ProxyErrorTypes, ProxyException, UserAPIKeyAuth

from spendmeter_local.keys.store import KeyRow, KeyStore, hash_key


class _Access:
    """The keys that this process accepts; `spendmeter_local.proxy` opens it before the first request."""

    keys: KeyStore
    master_key: str


def grant_access(keys: KeyStore, master_key: str) -> None:
    """Accept the master key and these keys from now on."""
    _Access.keys, _Access.master_key = keys, master_key


async def user_api_key_auth(request: Request, api_key: str | None) -> UserAPIKeyAuth:
    """Identify the caller. Reads memory only.

    Raises:
        ProxyException: 401, with the message of a LiteLLM with a database.
    """
    if not api_key:
        raise _refused("Authentication Error, No api key passed in.")
    if hmac.compare_digest(api_key.encode(), _Access.master_key.encode()):
        # As LiteLLM does: neither the master key nor its hash may be in a log or an event.
        return UserAPIKeyAuth(
            api_key=LITELLM_PROXY_MASTER_KEY_ALIAS,
            user_role=LitellmUserRoles.PROXY_ADMIN,
            user_id=LITELLM_PROXY_ADMIN_NAME,
        )
    row = _Access.keys.get(hash_key(api_key)) if api_key.startswith("sk-") else None
    if row is None:
        raise _unknown(api_key)
    now = datetime.now(UTC)
    if row.blocked:
        raise _refused("Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin.")
    if row.expired(now):
        raise ProxyException(
            message="Authentication Error - Expired Key."
            f" Key Expiry time {row.expires} and current time {now}",
            type=ProxyErrorTypes.expired_key,
            param=row.key_name,
            code=401,
        )
    return UserAPIKeyAuth(api_key=api_key, **known_to_litellm(row))


def known_to_litellm(row: KeyRow) -> dict[str, Any]:
    """The fields of a key that LiteLLM uses.

    Never `max_budget`: without a database LiteLLM 1.106.2 reserves against it and settles nothing, so one
    streamed call would lock the key for ever.
    """
    return {
        "key_name": row.key_name,
        "key_alias": row.key_alias,
        "user_id": row.user_id,
        "team_id": row.team_id,
        "org_id": row.organization_id,
        "project_id": row.project_id,
        "metadata": row.metadata,
        "models": list(row.models),
        "max_parallel_requests": row.max_parallel_requests,
        "tpm_limit": row.tpm_limit,
        "rpm_limit": row.rpm_limit,
        "blocked": row.blocked,
        "expires": row.expires,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _unknown(api_key: str) -> ProxyException:
    if not api_key.startswith("sk-"):
        masked = f"{api_key[:4]}****{api_key[-4:]}" if len(api_key) > 8 else "****"
        return _refused(
            f"LiteLLM Virtual Key expected. Received={masked}, expected to start with 'sk-'.", param="None"
        )
    shown = f"sk-...{api_key[-4:]}" if len(api_key) >= 16 else "sk-..."
    return ProxyException(
        message="Authentication Error, Invalid proxy server token passed."
        f" Received API Key = {shown}, Key Hash (Token) ={hash_key(api_key)}."
        " Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
        type=ProxyErrorTypes.token_not_found_in_db,
        param="key",
        code=401,
    )


def _refused(message: str, param: str | None = None) -> ProxyException:
    return ProxyException(message=message, type=ProxyErrorTypes.auth_error, param=param, code=401)
