"""What older releases of the LiteLLM proxy lack, made up for: see docs/reference/litellm-versions.md.

Each difference is found by what the release has, not by its number.
"""

import functools
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import litellm
from litellm import utils as litellm_utils
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import (
    Logging,
    StandardLoggingPayloadSetup,
    use_custom_pricing_for_model,
)
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.azure.azure import AzureChatCompletion
from litellm.llms.openai.openai import OpenAIChatCompletion
from litellm.proxy import common_request_processing
from litellm.proxy.auth.auth_exception_handler import UserAPIKeyAuthExceptionHandler

from spendmeter_gateway.litellm.fields import part_of

log = logging.getLogger(__name__)

_FIXED_STATUS: Final = 400
_DEFAULT_STATUS: Final = 429
_FAILURE_HOOK: Final = "async_post_call_failure_deployment_hook"
_ALREADY: Final = "_spendmeter"
_RETRIES: Final = "max_retries"

Kwargs = dict[str, Any]
_PreCall = Callable[[Kwargs, str], Awaitable[Kwargs | None]]

_attempt: ContextVar[tuple[Kwargs, str] | None] = ContextVar("spendmeter_attempt", default=None)
"""The arguments and the call type of the call to a deployment that runs in this task."""


def litellm_status() -> int:
    """The status with which the installed LiteLLM answers where its own budgets refuse."""
    # Not as an attribute: for one that it lacks, LiteLLM would search all that it can load.
    return native_status(vars(litellm).get("budget_exceeded_status_code"), is_fixed=_has_fixed_status)


def native_status(setting: object, *, is_fixed: bool) -> int:
    """The same, by the setting, None where there is none; in 1.84 the status `is_fixed` in the code."""
    if isinstance(setting, int) and not isinstance(setting, bool) and 400 <= setting <= 599:
        return setting
    return _FIXED_STATUS if is_fixed else _DEFAULT_STATUS


def make_up_for_what_is_missing() -> None:
    """Add, once a process, what this release lacks: the failure hook, usage of streams, images sent once."""
    _wrap_pre_call()
    _add_failure_hook()
    _hide_usage_that_we_requested()
    for client in (OpenAIChatCompletion, AzureChatCompletion):
        _send_images_once(client)


def usage_as_logged(response: object) -> dict[str, Any]:
    """The usage of an answer in the shape in which LiteLLM will log it; empty if it cannot read it."""
    try:
        usage: dict[str, Any] = StandardLoggingPayloadSetup.get_usage_as_dict(
            {"usage": part_of(response, "usage")}
        )
    except Exception:  # LiteLLM raises whatever it met in counts that are no numbers
        return {}
    return usage


def has_custom_pricing(logged: Any, params: Mapping[str, Any], response: object) -> bool:
    """Whether the deployment that answered has prices of its own. `logged` is the call's logging object."""
    find = getattr(logged, "custom_pricing_for", None)
    return bool(use_custom_pricing_for_model(params) if find is None else find(response))


def response_cost(logged: Any, response: object) -> float | None:
    """What LiteLLM makes of an answer. `logged` is the call's logging object."""
    # Without the underscore only from 1.105.
    cost: float | None = logged._response_cost_calculator(result=response)
    return cost


class _AddedByUs(dict[str, Any]):
    """`stream_options` that the client did not send: what they bring is for the meter alone."""


_handler: Any = UserAPIKeyAuthExceptionHandler._handle_authentication_error
# 1.84 has the number in its code, whatever the exception says; later ones ask the exception.
_has_fixed_status: Final = _FIXED_STATUS in _handler.__code__.co_consts
_has_failure_hook: Final = hasattr(CustomLogger, _FAILURE_HOOK)
# Every release that asks for it has functions and flags of that name there; 1.94 and before have none.
_has_usage_of_streams: Final = any("stream_usage" in name.lower() for name in vars(common_request_processing))


def _wrap_pre_call() -> None:
    """Where LiteLLM starts a call to a deployment: remember it, and ask for its usage."""
    own: _PreCall = litellm_utils.async_pre_call_deployment_hook
    if (_has_failure_hook and _has_usage_of_streams) or hasattr(own, _ALREADY):
        return

    async def pre_call(kwargs: Kwargs, call_type: str) -> Kwargs | None:
        _attempt.set(None)
        changed = await own(kwargs, call_type)
        sent = kwargs if changed is None else changed
        if not _has_usage_of_streams and call_type == "acompletion":
            sent = _with_usage(sent)
        _attempt.set((sent, call_type))
        return sent

    setattr(pre_call, _ALREADY, True)
    litellm_utils.async_pre_call_deployment_hook = pre_call


def _add_failure_hook() -> None:
    """Call our callbacks' hook for each failed attempt: LiteLLM logs only a request's first."""
    own = Logging.async_failure_handler
    if _has_failure_hook or hasattr(own, _ALREADY):
        return

    async def failed(self: Any, exception: Exception, *rest: Any, **named: Any) -> None:
        running = _attempt.get()
        if running is not None and running[0].get("litellm_logging_obj") is self:
            _attempt.set(None)
            await _announce_failure(*running, exception)
        await own(self, exception, *rest, **named)

    setattr(failed, _ALREADY, True)
    Logging.async_failure_handler = failed


async def _announce_failure(kwargs: Kwargs, call_type: str, exception: Exception) -> None:
    try:
        typed = litellm.types.utils.CallTypes(call_type)
    except ValueError:
        typed = None
    for callback in litellm.callbacks:
        hook = getattr(callback, _FAILURE_HOOK, None)
        if isinstance(callback, CustomLogger) and hook is not None:
            try:
                await hook(kwargs, exception, typed)
            except Exception:
                log.exception("a failed call could not be noted")


def _with_usage(kwargs: Kwargs) -> Kwargs:
    """The same call, asking for usage at the end of the stream, unless operator or client forbid it."""
    options = kwargs.get("stream_options")
    if kwargs.get("stream") is not True or (isinstance(options, dict) and "include_usage" in options):
        return kwargs
    proxy = sys.modules.get("litellm.proxy.proxy_server")
    if getattr(proxy, "general_settings", {}).get("always_include_stream_usage") is False:
        return kwargs
    try:
        model, provider, _, _ = litellm.get_llm_provider(
            model=str(kwargs.get("model")),
            custom_llm_provider=kwargs.get("custom_llm_provider"),
            api_base=kwargs.get("api_base"),
        )
        known = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider) or ()
    except Exception:  # LiteLLM raises its own BadRequestError for a provider that it does not know
        return kwargs
    if "stream_options" not in known:
        return kwargs
    return {**kwargs, "stream_options": _AddedByUs({**(options or {}), "include_usage": True})}


def _hide_usage_that_we_requested() -> None:
    own = CustomStreamWrapper.check_send_stream_usage
    if _has_usage_of_streams or hasattr(own, _ALREADY):
        return

    def sends_usage(self: Any, stream_options: dict[str, Any] | None) -> bool:
        return not isinstance(stream_options, _AddedByUs) and bool(own(self, stream_options))

    setattr(sends_usage, _ALREADY, True)
    CustomStreamWrapper.check_send_stream_usage = sends_usage


def _send_images_once(client: Any) -> None:
    """Up to 1.106 the provider's SDK sends an image's request three times, below every hook.

    The call's `max_retries`, which is 0 by then, does not get there.
    """
    own = client.image_generation
    if _RETRIES not in own.__code__.co_consts or hasattr(own, _ALREADY):
        return

    @functools.wraps(own)
    def image_generation(self: Any, *given: Any, optional_params: Kwargs, **named: Any) -> Any:
        return own(self, *given, optional_params={**optional_params, _RETRIES: 0}, **named)

    setattr(image_generation, _ALREADY, True)
    client.image_generation = image_generation
