"""The key API's routes, in front of LiteLLM's own. They need the master key, except to read one's own key."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from litellm.proxy._types import (
    GenerateKeyRequest,
    KeyRequest,
    LitellmUserRoles,
    ProxyErrorTypes,
    UpdateKeyRequest,
    UserAPIKeyAuth,
)
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from spendmeter_local.keys.answers import Answer
from spendmeter_local.keys.api import KeyApi
from spendmeter_local.keys.requests import refusal

Caller = Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]
Hash = Annotated[str | None, Query()]


def key_routes(api: KeyApi) -> APIRouter:
    """The routes over one key API."""
    router = APIRouter(prefix="/key", tags=["key management"])

    @router.post("/generate")
    async def generate(data: GenerateKeyRequest, caller: Caller) -> Answer:
        _require_admin(caller, "/key/generate")
        return await api.generate(data, created_by=caller.user_id)

    @router.post("/update")
    async def update(data: UpdateKeyRequest, caller: Caller) -> Answer:
        _require_admin(caller, "/key/update")
        return await api.update(data)

    @router.get("/info")
    async def info(caller: Caller, key: Hash = None) -> Answer:
        row, answer = await api.info(key or caller.token)
        if not _is_admin(caller) and row.token != caller.token:
            raise refusal(
                f"You are not allowed to access this key's info. Your role={caller.user_role}",
                ProxyErrorTypes.internal_server_error,
                None,
                403,
            )
        return answer

    @router.get("/list")
    async def listing(
        caller: Caller,
        page: Annotated[int, Query(ge=1)] = 1,
        size: Annotated[int, Query(ge=1, le=100)] = 10,
        user_id: str | None = None,
        team_id: str | None = None,
        organization_id: str | None = None,
        project_id: str | None = None,
        key_alias: str | None = None,
        key_hash: str | None = None,
        return_full_object: bool = False,
    ) -> Answer:
        _require_admin(caller, "/key/list")
        wanted: dict[str, Any] = {
            "user_id": user_id,
            "team_id": team_id,
            "organization_id": organization_id,
            "project_id": project_id,
            "key_alias": key_alias,
            "token": key_hash,
        }
        return await api.listing(wanted, page, size, full=return_full_object)

    @router.post("/delete")
    async def delete(data: KeyRequest, caller: Caller) -> Answer:
        _require_admin(caller, "/key/delete")
        return await api.delete(data)

    return router


def _is_admin(caller: UserAPIKeyAuth) -> bool:
    return bool(caller.user_role == LitellmUserRoles.PROXY_ADMIN)


def _require_admin(caller: UserAPIKeyAuth, route: str) -> None:
    if not _is_admin(caller):
        raise refusal(
            "Authentication Error, Only proxy admin can be used to generate, delete, update info for new"
            f" keys/users/teams. Route={route}. Your role={caller.user_role}. Your user_id={caller.user_id}",
            ProxyErrorTypes.auth_error,
            None,
            401,
        )
