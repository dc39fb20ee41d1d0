"""Checks key requests; refusals have LiteLLM's own shape. Pure."""

from datetime import datetime, timedelta
from typing import Any

from litellm.constants import MINIMUM_CUSTOM_KEY_LENGTH
from litellm.litellm_core_utils.duration_parser import duration_in_seconds
from litellm.proxy._types import GenerateKeyRequest, ProxyErrorTypes, ProxyException, UpdateKeyRequest

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd

_KEPT = (
    "key_alias",
    "user_id",
    "team_id",
    "organization_id",
    "project_id",
    "metadata",
    "models",
    "max_parallel_requests",
    "tpm_limit",
    "rpm_limit",
    "blocked",
    "budget_duration",
)
_ACTED_ON = {*_KEPT, "key", "max_budget", "duration", "tags"}
# These do not affect what a key may do.
_HARMLESS = {"send_invite_email", "key_type"}


def refusal(
    message: str,
    kind: ProxyErrorTypes = ProxyErrorTypes.bad_request_error,
    param: str | None = None,
    code: int = 400,
) -> ProxyException:
    """An error in the shape that LiteLLM's clients know."""
    return ProxyException(message=message, type=kind, param=param, code=code)


def kept(data: GenerateKeyRequest | UpdateKeyRequest, metadata: dict[str, Any]) -> dict[str, Any]:
    """The fields that were sent, ready for a row; null means the same as leaving a field out."""
    sent = {name: getattr(data, name) for name in _KEPT if name in data.model_fields_set}
    if isinstance(data, UpdateKeyRequest) and data.key is None:
        sent.pop("key_alias", None)
    for name, empty in (("metadata", {}), ("models", ())):
        if name in sent and sent[name] is None:
            sent[name] = empty
    if data.tags:
        sent["metadata"] = {**sent.get("metadata", metadata), "tags": data.tags}
    return sent


def refuse_unknown_limits(data: GenerateKeyRequest | UpdateKeyRequest) -> None:
    """Refuse limits that cannot be enforced here: a limit that is silently ignored is not a limit."""
    sent = data.model_dump(exclude_unset=True)
    beyond = sorted(name for name, value in sent.items() if value and name not in _ACTED_ON | _HARMLESS)
    if beyond:
        raise refusal(
            f"{', '.join(beyond)}: not supported by this proxy, which has no LiteLLM database; leave it out,"
            " or set it as a budget of its own (`spendmeter budget apply`)",
            param=beyond[0],
        )


def check_form(key: str) -> None:
    """Refuse a custom key that LiteLLM would refuse."""
    if not key.startswith("sk-"):
        raise refusal("Invalid key format. LiteLLM Virtual Key must start with 'sk-'.", param="key")
    if len(key) < MINIMUM_CUSTOM_KEY_LENGTH:
        raise refusal(
            "Invalid key format. LiteLLM Virtual Key must be at least"
            f" {MINIMUM_CUSTOM_KEY_LENGTH} characters long.",
            param="key",
        )


def limit(max_budget: float) -> NanoUsd:
    """`max_budget` as money; refused unless finite and above 0."""
    try:
        amount = from_float_usd(max_budget)
    except InvalidAmount:
        amount = NanoUsd(-1)
    if amount <= 0:
        raise refusal(
            f"max_budget must be a finite number above 0. Received: {max_budget}", param="max_budget"
        )
    return amount


def expiry(duration: str | None, now: datetime) -> datetime | None:
    """When a key of that `duration` ends; without a duration it never does."""
    if duration is None:
        return None
    try:
        return now + timedelta(seconds=duration_in_seconds(duration))
    except (ValueError, OverflowError):
        raise refusal(
            f"duration {duration!r}: write it as 30s, 30m, 30h, 30d or 1mo", param="duration"
        ) from None
