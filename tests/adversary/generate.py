"""Cases from a seed: the same seed and number, the same case. Pure."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from spendmeter_local.upstream.quirks import Fault, UsageForm
from tests.adversary.case import Case, Control
from tests.adversary.markers import AFTER, BEFORE, DURING
from tests.adversary.owners import SPENT
from tests.adversary.routes import ROUTES

CHAT_ONLY_MODELS = (
    "failing",
    "failing-to-claude",
    "free-local",
    "unpriced",
    "deployment-of-gpt-4o",
    "openai/gpt-4o",
    "gpt-4o-mini,gpt-4o",
    "gpt-4o,gpt-4o,gpt-4o",
    "gpt-4o-mini,claude,gem",
)
_FORGED = {"user_api_key_hash": "$VICTIM", "user_api_key_user_id": "victim", "user_api_key_team_id": "t"}
_FORGED_ID = {"spendmeter_event_id": "01890000-0000-7000-8000-000000000000"}

BODY_CONTROLS: dict[str, Sequence[Any]] = {
    "fallbacks": [
        ["gpt-4o"],
        [{"model": "gpt-4o", "metadata": {}}],
        [{"model": "gpt-4o", "metadata": _FORGED}],
        [{"model": "gpt-4o", "litellm_metadata": _FORGED, "base_model": "gpt-4o-mini"}],
        [{"model": "claude", "metadata": _FORGED, "input_cost_per_token": 0}],
    ],
    "context_window_fallbacks": [[{"gpt-4o": ["claude"]}]],
    "timeout": [0.05, 0.2, 30],
    "stream_timeout": [0.05],
    "num_retries": [1, 4],
    "max_retries": [0, 3],
    "metadata": [_FORGED, {"tags": ["client"]}, _FORGED_ID, {}, None, [], "text", {"user_id": "e1"}],
    "litellm_metadata": [_FORGED, {"tags": ["client"]}, _FORGED_ID, {}],
    "user": ["end-user", 5, {"a": "b"}, [[]]],
    "tags": [["client"], "client", [{"deep": []}]],
    "no-log": [True],
    "extra_body": [{"max_tokens": 5000}, {"metadata": _FORGED}, {"user": "x"}, {"unknown_control": 1}],
    "extra_headers": [{"x-any": "1"}],
    "fastest_response": [True],
    "mock_response": ["Never was this served."],
    "base_model": ["gpt-4o-mini"],
    "model_info": [{"base_model": "gpt-4o-mini", "input_cost_per_token": 0}],
    "input_cost_per_token": [0],
    "output_cost_per_token": [0, 1],
    "custom_llm_provider": ["openai"],
    "cache": [{"use-cache": True}, {"no-cache": True}, {"no-store": True}],
    "caching": [True],
    "stream_options": [{"include_usage": False}, {"include_usage": True}],
    "n": [2],
    "max_tokens": [1, 50],
    "max_completion_tokens": [60],
    "temperature": [0.5],
    "litellm_call_id": ["forged"],
    "litellm_trace_id": ["forged"],
    "litellm_session_id": ["s1"],
    "router_settings_override": [{"num_retries": 2, "fallbacks": [{"gpt-4o": ["claude"]}]}],
    "user_config": [{"model_list": []}],
    "guardrails": [[]],
    "disable_global_guardrails": [True],
    "drop_params": [True],
    "additional_drop_params": [["user"]],
    "allowed_openai_params": [["unknown"]],
    "proxy_server_request": [{"body": {}}],
    "standard_logging_object": [{"response_cost": 0}],
    "response_cost": [0],
    "cost": [0],
    "logging": [False],
    "turn_off_message_logging": [True],
    "a_provider_parameter": [{"of": ["any", "kind"]}],
}
HEADER_CONTROLS: dict[str, Sequence[str]] = {
    "x-litellm-call-id": ["forged-call-id"],
    "x-litellm-tags": ["client,other"],
    "x-litellm-timeout": ["0.05", "30"],
    "x-litellm-stream-timeout": ["0.05"],
    "x-litellm-num-retries": ["3"],
    "x-litellm-session-id": ["s1"],
    "x-litellm-customer-id": ["e2"],
    "x-litellm-end-user-id": ["e3"],
    "x-litellm-spend-logs-metadata": ['{"user_api_key_hash": "$VICTIM"}'],
    "x-litellm-enable-message-redaction": ["true"],
    "langfuse-metadata": ["{}"],
    "x-forwarded-for": ["10.0.0.1"],
}
_FORMS = get_args(UsageForm)
_FAULTS = tuple(fault for fault in get_args(Fault) if fault != "hang")
# Beside a hang a request has this timeout: an answer that never comes would last its minute.
_IMPATIENT = Control("timeout", "0.5")
_HAVE_TIMEOUTS = ("chat", "messages", "responses", "embeddings")
_NESTED_AT_MOST = (1, 3, 40, 900)


def generate(seed: int, number: int) -> Case:
    """The case of that number."""
    dice = random.Random(f"{seed}/{number}")
    route = dice.choice([*ROUTES, *(["chat"] * 6), *(["messages", "responses"] * 2)])
    case = Case(
        route, dice.choice(ROUTES[route].models), owner=_owner(dice), words=dice.choice([3, 12, 60, 600])
    )
    if route == "chat" and dice.random() < 0.35:
        case = replace(case, model=dice.choice(CHAT_ONLY_MODELS))
    case = replace(case, stream=ROUTES[route].can_stream and dice.random() < 0.45)
    case = _counts(dice, case)
    for change, chance in (
        (_controls, 0.45),
        (_quirk, 0.2),
        (_client, 0.2),
        (_again, 0.12),
        (_marker, 0.08),
    ):
        if dice.random() < chance:
            case = change(dice, case)
    if case.route == "tool loop":
        case = case.with_directive(tool=dice.choice([1, 1, 2]))
    return case


def _owner(dice: random.Random) -> str:
    kind = dice.random()
    if kind < 0.4:
        return "plain"
    if kind < 0.8:
        return "crowd"
    return "small" if kind < 0.87 else dice.choice([*SPENT])


def _counts(dice: random.Random, case: Case) -> Case:
    if dice.random() < 0.3:
        return case
    if case.owner == "small":
        # What is held for a request rests on its text: that has to be what the provider counts.
        return case.with_directive(out=dice.choice([1, 20, 100]))
    given = dice.choice([1, 40, 1000, 5000])
    case = case.with_directive(**{"in": given}, out=dice.choice([1, 20, 100]))
    if given > 100 and case.route in ("chat", "responses", "messages") and dice.random() < 0.4:
        case = case.with_directive(cached=given // 2)
    return case


def _controls(dice: random.Random, case: Case) -> Case:
    controls = []
    for _ in range(dice.choice([1, 1, 2, 4])):
        if dice.random() < 0.75:
            name = dice.choice([*BODY_CONTROLS])
            controls.append(Control(name, json.dumps(dice.choice(BODY_CONTROLS[name]))))
        else:
            name = dice.choice([*HEADER_CONTROLS])
            controls.append(Control(name, json.dumps(dice.choice(HEADER_CONTROLS[name])), "header"))
    depth = dice.choice(_NESTED_AT_MOST) if dice.random() < 0.12 else 0
    return replace(case, controls=tuple(controls), depth=depth)


def _quirk(dice: random.Random, case: Case) -> Case:
    kinds = ["usage", "fault", "fault", "status", "slow"]
    kind = dice.choice([*kinds, "hang"] if case.route in _HAVE_TIMEOUTS else kinds)
    if kind == "usage":
        return case.with_directive(usage=dice.choice(_FORMS))
    if kind == "fault":
        return case.with_directive(fault=dice.choice(_FAULTS))
    if kind == "status":
        return case.with_directive(status=dice.choice([400, 401, 404, 408, 429, 500, 503]))
    if kind == "slow":
        return case.with_directive(delay_ms=dice.choice([100, 400]))
    return replace(case.with_directive(fault="hang"), controls=(*case.controls, _IMPATIENT))


def _client(dice: random.Random, case: Case) -> Case:
    """It leaves before the first byte, in the middle or at the end; or reads nothing."""
    case = case.with_directive(chunk_delay_ms=dice.choice([0, 20, 50]), chunks=20, out=40)
    if dice.random() < 0.5:
        case = case.with_directive(delay_ms=dice.choice([0, 50, 300]))
    return replace(
        case, reads=dice.choice(["leaves", "leaves", "stalls"]), after_ms=dice.choice([30, 150, 500])
    )


def _again(dice: random.Random, case: Case) -> Case:
    if case.route == "responses" and not case.stream and dice.random() < 0.5:
        return replace(case, polls=dice.choice([1, 4]))
    if dict(case.directive).get("fault") == "hang":
        return case
    return replace(case, repeat=dice.choice([2, 5]), is_parallel=dice.random() < 0.6)


def _marker(dice: random.Random, case: Case) -> Case:
    return replace(case, marker=dice.choice([BEFORE, DURING, AFTER]))
