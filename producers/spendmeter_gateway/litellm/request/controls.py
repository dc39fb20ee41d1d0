"""LiteLLM's own controls in a request's body: which are stripped, pass, or cannot be metered. Pure.

A body is a provider's parameters and, under names of its own, orders to LiteLLM: who pays, at which price,
where to, how often, and whether it is logged. Those are known by name (1.84 to 1.110). Whatever is none of
them is a provider's and passes. Nothing here raises or recurses; what a client nests is walked with a bound.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from litellm.types.router import GenericLiteLLMParams
from pydantic import TypeAdapter, ValidationError

from spendmeter_gateway.litellm.fields import (
    EVENT_ID_FIELD,
    JSON_TYPES,
    METADATA,
    metadata_of_the_proxy,
)
from spendmeter_gateway.litellm.request.parameter_names import INTEGRATIONS, PRICES, names


class Treatment(StrEnum):
    """What becomes of a control that a client sends."""

    STRIPPED = "stripped"
    PASSES = "passes"
    REFUSED = "refused under a budget"
    NESTED_STRIPPED = "stripped below the root"
    """At the root LiteLLM has judged it by the key's settings, or has put it there itself."""


class Group(NamedTuple):
    """Controls that are treated alike."""

    changes: str
    """What they can change."""
    treatment: Treatment
    why: str
    names: frozenset[str]


class _Zero(int):
    """A zero that is true, so that it is not read as "not given": embeddings have `max_retries or 2`."""

    def __bool__(self) -> bool:
        return True


class ControlOutcome(NamedTuple):
    """What was found in a request, by path."""

    stripped: tuple[str, ...] = ()
    unmetered: tuple[str, ...] = ()
    """Controls under which the request must be refused with a 400 that names them."""


NOTHING = ControlOutcome()
FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")

GROUPS = {
    "owner": Group(
        "who pays",
        Treatment.STRIPPED,
        "authentication has identified the caller",
        frozenset(
            "user_api_key user_api_key_auth user_api_key_dict user_api_key_hash user_api_key_team_id"
            " user_api_key_user_id user_api_key_org_id user_api_key_end_user_id user_api_key_alias"
            f" {EVENT_ID_FIELD}".split()
        ),
    ),
    "price": Group(
        "the price, for this request and (`register_model`) for everybody's",
        Treatment.STRIPPED,
        "prices are the operator's",
        PRICES | {"response_cost", "response_cost_failure_debug_information"},
    ),
    "call": Group(
        "price, route or logging, by replacing what LiteLLM computes itself",
        Treatment.STRIPPED,
        "not for a client to set; LiteLLM puts its own there later",
        names(
            """
            model_info litellm_params optional_params standard_logging_object
            standard_callback_dynamic_params original_function original_generic_function litellm_router
            call_type fallback_depth attempted_targets _target_order _excluded_deployment_ids
            _router_weights weights _retry_skipped_deployment_ids _is_litellm_internal_call
            _otel_internal _skip_mcp_handler _skip_responses_api_bridge _agentic_loop_api_surface
            _agentic_loop_depth _agentic_loop_fingerprints max_agentic_loops
            _code_interpreter_interception_active _code_interpreter_interception_converted_stream
            _code_interpreter_interception_sandbox_key _code_interpreter_interception_session_scoped
            _code_interpreter_interception_stream_options _context_compaction_state
            _encrypted_content_affinity_pinned _headroom_interception_converted_stream
            _headroom_interception_stream_options _headroom_request_context
            _litellm_addressed_comparison_response_id _litellm_addressed_response_id
            _litellm_stream_usage_injected _litellm_strip_stream_usage
            _websearch_interception_converted_stream _websearch_interception_emit_native_blocks
            _websearch_interception_stream_options _mid_stream_fallback_controls acompletion aembedding
            aimg_generation allm_passthrough_route async_call atext_completion text_completion
            completion_call_id complete_response client_side_timeout silent_model self client
            use_litellm_proxy use_client litellm_proxy_rate_limit_response previous_models
            model_file_id_mapping azure
            """
        ),
    ),
    "logging": Group(
        "whether and where a call is logged: the meter reads LiteLLM's log",
        Treatment.STRIPPED,
        "a call that is not logged is not counted; a logger in one request would get everybody's calls",
        names(
            """
            no-log no_log logger_fn callbacks input_callback service_callback litellm_request_debug
            verbose
            """
        ),
    ),
    "of the proxy": Group(
        "logging and owner",
        Treatment.NESTED_STRIPPED,
        "the proxy sets them at the root, from keys and teams; a client's own at the root are stripped",
        names(
            """
            litellm_logging_obj litellm_call_id proxy_server_request secret_fields shared_session
            success_callback failure_callback litellm_disabled_callbacks litellm_trusted_callback_vars
            enable_prompt_caching
            """
        ),
    ),
    "mocks": Group(
        "cost: an answer that no provider gave",
        Treatment.NESTED_STRIPPED,
        "at the root only keys that may send them get here",
        names(
            """
            mock_response mock_tool_calls
            """
        ),
    ),
    "metadata": Group(
        "who pays: a fallback's replaces the call's",
        Treatment.NESTED_STRIPPED,
        "at the root it is read; the provider's own `metadata` passes where LiteLLM's is another",
        frozenset(METADATA),
    ),
    "provider": Group(
        "price and route: the same host under a provider without prices",
        Treatment.NESTED_STRIPPED,
        "at the root it is stripped if the request names a model and calls it",
        frozenset({"custom_llm_provider"}),
    ),
    "hidden retries": Group(
        "the number of calls: the provider's SDK repeats them below every hook",
        Treatment.STRIPPED,
        "becomes 0; `num_retries` repeats where each attempt is counted",
        frozenset({"max_retries"}),
    ),
    "router": Group(
        "everything: a router, its models, keys and prices",
        Treatment.REFUSED,
        "the client itself would define what answers; without a budget it passes, its prices stripped",
        names(
            """
            user_config model_list
            """
        ),
    ),
    "calls": Group(
        "how many calls, where to and how long",
        Treatment.PASSES,
        "each call to a deployment is admitted, counted and priced by itself",
        names(
            """
            fallbacks context_window_fallbacks content_policy_fallbacks context_window_fallback_dict
            max_fallbacks disable_fallbacks include_fallback_errors num_retries retry_policy
            retry_strategy model_group_retry_policy timeout request_timeout stream_timeout force_timeout
            stream_timeout_by_service_tier timeout_by_service_tier cooldown_time fastest_response
            router_settings_override routing_strategy routing_strategy_args routing_groups
            specific_deployment deployment_id model_id order weight priority allowed_model_region
            region_name enable_tag_filtering tag_regex provider_affinity_header
            passthrough_on_no_deployment mock_timeout mock_delay mock_testing_fallbacks
            mock_testing_context_fallbacks mock_testing_content_policy_fallbacks
            mock_testing_rate_limit_error
            """
        ),
    ),
    "size": Group(
        "what goes to the provider, and so what it costs",
        Treatment.PASSES,
        "`strict` reads and bounds the call's final parameters",
        names(
            """
            extra_body extra_headers extra_query headers provider_specific_header drop_params
            additional_drop_params allowed_openai_params prompt_id prompt_label prompt_version
            prompt_variables prompt_environment initial_prompt_value final_prompt_value
            litellm_system_prompt custom_prompt_dict roles bos_token eos_token hf_model_name
            ensure_alternating_roles user_continue_message assistant_continue_message
            supports_system_message disable_add_transform_inline_image_block stream_chunk_size
            stream_response merge_reasoning_content_in_choices enable_json_schema_validation
            use_chat_completions_api thought_signature_in_tool_call_id search_tool_name
            responses_api_version max_file_size_mb
            """
        ),
    ),
    "credentials": Group(
        "whose account at the provider is used",
        Treatment.PASSES,
        "LiteLLM allows or rejects them; a call with a client's own is metered like any other",
        names(
            """
            api_base base_url api_key api_version organization litellm_credential_name
            configurable_clientside_auth_params model_config model_alias_map aws_access_key_id
            aws_secret_access_key aws_session_token aws_region_name aws_role_name aws_profile_name
            aws_session_name aws_external_id aws_session_tags aws_sts_endpoint aws_web_identity_token
            aws_bedrock_runtime_endpoint aws_bedrock_control_plane_endpoint aws_bedrock_project_id
            aws_batch_role_arn bedrock_tags azure_ad_token azure_ad_token_provider azure_password
            azure_scope azure_username client_id client_secret tenant_id vertex_credentials
            vertex_location vertex_project watsonx_region_name ssl_verify chatgpt_auth_file
            github_copilot_auth_type github_copilot_host github_copilot_user_session use_xai_oauth
            anthropic_disable_workload_identity_federation anthropic_federation_rule_id
            anthropic_federation_workspace_id anthropic_identity_source anthropic_identity_token
            anthropic_identity_token_file anthropic_issuer_audience anthropic_issuer_signing_key_ref
            anthropic_issuer_subject anthropic_issuer_ttl_seconds anthropic_issuer_url
            anthropic_keycloak_auth_method anthropic_keycloak_client_id
            anthropic_keycloak_client_secret_ref anthropic_keycloak_scope anthropic_keycloak_token_url
            anthropic_organization_id anthropic_service_account_id openai_identity_provider_id
            openai_identity_token_file openai_service_account_id token_exchange_audience
            token_exchange_endpoint token_exchange_profile token_exchange_scope fireworks_forward_user_id
            s3_access_key_id s3_bucket_name s3_bucket_owner s3_encryption_key_id s3_endpoint_url
            s3_output_bucket_name s3_region_name s3_secret_access_key
            """
        ),
    ),
    "cache": Group(
        "whether an answer comes from LiteLLM's cache",
        Treatment.PASSES,
        "an answer from the cache says so and costs nothing",
        names(
            """
            cache caching ttl cache_key preset_cache_key caching_groups
            """
        ),
    ),
    "names": Group(
        "tags, session and end user",
        Treatment.PASSES,
        "the client may set them beside the key's own: `SPENDMETER_CLIENT_…`",
        names(
            """
            tags litellm_session_id litellm_trace_id id
            """
        ),
    ),
    "others' logs": Group(
        "what other integrations log, and where",
        Treatment.PASSES,
        "the meter reads none of it; LiteLLM rejects what it must",
        INTEGRATIONS | {"log_client_error_tracebacks"},
    ),
    "policies": Group(
        "guardrails and policies",
        Treatment.PASSES,
        "a guardrail's own calls are calls",
        names(
            """
            guardrails guardrail_config policies include_guardrail_response
            """
        ),
    ),
    "of a deployment": Group(
        "nothing in a request: LiteLLM reads them in its configuration only",
        Treatment.PASSES,
        "inert",
        names(
            """
            max_budget budget_duration rpm tpm rpd tpd itpm otpm default_api_key_rpm_limit
            default_api_key_tpm_limit max_parallel_requests daily_reset_time adaptive_router_config
            adaptive_router_default_model auto_router_config auto_router_config_path
            auto_router_default_model auto_router_embedding_model auto_router_max_input_chars
            auto_router_model_compression auto_router_routing_compression complexity_router_config
            complexity_router_default_model quality_router_config quality_router_default_model
            switchyard_router_config kubernetes_pod_discovery allow_client_keepalive_override
            keepalive_seconds rust use_in_pass_through kwargs hugging_face replicate together_ai
            """
        ),
    ),
}
"""Every control by name. A name that is in none of these is a provider's parameter."""

# How many nodes of what a client nests are read, in each kind of walk. LiteLLM follows five fallbacks.
MAX_NODES = 1_000
MAX_ENTRIES_DEEP = 16


def _with(*treatments: Treatment) -> frozenset[str]:
    return frozenset().union(*(group.names for group in GROUPS.values() if group.treatment in treatments))


KNOWN = frozenset().union(*(group.names for group in GROUPS.values()))
_BELOW = _with(Treatment.STRIPPED, Treatment.NESTED_STRIPPED)
# A client's whole router may pass, but its prices would be everybody's.
_IN_A_ROUTER = GROUPS["price"].names | GROUPS["logging"].names | GROUPS["owner"].names
_MAY_BE_A_MODEL = frozenset({"azure", "client", "self", "verbose", "weights"})
# Names with an underscore are notes of LiteLLM's own hooks, some of which run before ours.
_SET_BY_THE_PROXY = GROUPS["of the proxy"].names | {
    name for name in GROUPS["call"].names if name.startswith("_")
}
_REFUSED = GROUPS["router"].names
# A price field of a version that we do not know yet.
_PRICE = "_cost_per_"
_PROVIDER = "custom_llm_provider"
_MAX_RETRIES = "max_retries"
_SECRETS = "secret_fields"
_EXTRA_BODY = "extra_body"
_OVERRIDE = "router_settings_override"
_STRIPPED = _with(Treatment.STRIPPED) | _SET_BY_THE_PROXY
# A body whose keys are none of these needs nothing done.
_AT_ROOT = _STRIPPED | _REFUSED | {_PROVIDER, _EXTRA_BODY, _OVERRIDE, *FALLBACKS}
# What the proxy has put into every request by the time its hooks are called.
_ALWAYS = frozenset({"litellm_logging_obj", "litellm_call_id", "proxy_server_request", "secret_fields"}) | {
    "shared_session"
}
_ROOT_BUT_ALWAYS = _AT_ROOT - _ALWAYS
_ASKS = ("messages", "prompt", "input", "contents", "query")
_OWNER = "user_api_key"
_IN_THE_PROXYS_METADATA = frozenset(
    {
        "model_info", "standard_logging_guardrail_information", "standard_logging_object", "response_cost",
        "client_disconnected", "error_information", "base_model", EVENT_ID_FIELD,
    }
)  # fmt: skip
# The provider reads these of `extra_body`, over the body's: LiteLLM would price another model's answer, or
# see no usage.
_IN_EXTRA_BODY = ("model",)
VALIDATED_LATE = ("litellm_trace_id", "drop_params", "merge_reasoning_content_in_choices")
"""A client's, which LiteLLM validates when it begins to read a stream: by then the provider has answered, and
the answer would be billed and never read."""
_NO_BODY: Mapping[str, Any] = {}
_READERS: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(GenericLiteLLMParams.model_fields[name].annotation)
    for name in VALIDATED_LATE
    if name in GenericLiteLLMParams.model_fields
}
_MISSING = object()
_NO_RETRIES = _Zero(0)


def unknown(names: frozenset[str]) -> frozenset[str]:
    """Those of LiteLLM's parameters (its `all_litellm_params`) that this version of ours does not know."""
    return names - KNOWN


def apply_controls(data: dict[str, Any], *, is_under_budget: bool) -> ControlOutcome:
    """Strip in place what may not be a client's to say; name what cannot be metered.

    `data` is the request as LiteLLM's pre-call hook has it, `is_under_budget` whether a budget that can
    refuse may match it. Of a body without controls only the keys are read.
    """
    stripped: list[str] = []
    at_root = [] if _ROOT_BUT_ALWAYS.isdisjoint(data) else [name for name in data if name in _ROOT_BUT_ALWAYS]
    if _PRICE in " ".join(data):
        at_root += [name for name in data if _PRICE in name and name not in _ROOT_BUT_ALWAYS]
    forged = [name for name in _ALWAYS if name in data and _is_the_clients(data, name)]
    unmetered: list[str] = []
    if at_root or forged:
        for name in (*at_root, *forged):
            if name in _REFUSED:
                unmetered.append(name)
            elif name == _MAX_RETRIES:
                _end_retries(data, name, stripped)
            elif name in _STRIPPED or _PRICE in name:
                if name not in _SET_BY_THE_PROXY or _is_the_clients(data, name):
                    _strip(data, name, "", stripped)
            elif name == _PROVIDER and data.get("model") and any(asked in data for asked in _ASKS):
                _strip(data, name, "", stripped)
        _strip_extra_body(data, "", stripped)
    owned = metadata_of_the_proxy(data)
    for name in METADATA:
        metadata = data.get(name)
        if type(metadata) is dict:
            _strip_metadata(metadata, name, stripped, is_the_proxys=name == owned)
    if at_root:
        _strip_nested(data, owned, stripped)
    if not stripped and not unmetered:
        return NOTHING
    return ControlOutcome(tuple(stripped), tuple(unmetered) if is_under_budget else ())


def strip_final(kwargs: dict[str, Any]) -> tuple[str, ...]:
    """Of a call's final parameters: what the provider would read over what LiteLLM prices; hidden retries;
    what LiteLLM itself could not read once the provider has answered.

    For `async_pre_call_deployment_hook`. A deployment's own `max_retries` goes as well: the SDK repeats
    below every hook (embeddings without any: 3 calls, one hook).
    """
    stripped: list[str] = []
    _strip_extra_body(kwargs, "", stripped)
    _strip_unreadable(kwargs, stripped)
    if kwargs.get(_MAX_RETRIES) != 0:
        stripped.append(_MAX_RETRIES)
    kwargs[_MAX_RETRIES] = _NO_RETRIES
    return tuple(stripped)


def _strip_unreadable(kwargs: dict[str, Any], stripped: list[str]) -> None:
    for name, reader in _READERS.items():
        if kwargs.get(name) is None:
            continue
        try:
            reader.validate_python(kwargs[name])
        except ValidationError:
            _strip(kwargs, name, "", stripped)


def _strip(of: dict[str, Any], name: str, path: str, stripped: list[str]) -> None:
    del of[name]
    stripped.append(path + name)


def _end_retries(of: dict[str, Any], path: str, stripped: list[str]) -> None:
    if of[_MAX_RETRIES] != 0 or isinstance(of[_MAX_RETRIES], bool):
        of[_MAX_RETRIES] = 0
        stripped.append(path)


def _is_the_clients(data: Mapping[str, Any], name: str) -> bool:
    """Whether a value at the root that the proxy may have put there is what the client sent."""
    value = data[name]
    if name == _SECRETS:
        # The proxy always puts its own over it; a route may copy that into an ordinary dict.
        return False
    if name not in ("litellm_call_id", "proxy_server_request") and name in _ALWAYS:
        # LiteLLM's own is an object, and JSON makes none.
        return type(value) in JSON_TYPES
    request = data.get("proxy_server_request")
    body = request.get("body") if type(request) is dict else None
    if type(body) is not dict:
        return False
    return body.get(name, _MISSING) is value and value is not request


def _strip_metadata(metadata: dict[Any, Any], path: str, stripped: list[str], *, is_the_proxys: bool) -> None:
    if is_the_proxys:
        if not metadata.keys().isdisjoint(_IN_THE_PROXYS_METADATA):
            for name in _IN_THE_PROXYS_METADATA & metadata.keys():
                _strip(metadata, name, f"{path}.", stripped)
        return
    # A client's own, which may go to the provider: everything in it is its own but our owner's names.
    for name in [n for n in metadata if isinstance(n, str) and n.startswith((_OWNER, EVENT_ID_FIELD))]:
        _strip(metadata, name, f"{path}.", stripped)


def _strip_extra_body(of: dict[str, Any], path: str, stripped: list[str]) -> None:
    extra = of.get(_EXTRA_BODY)
    if type(extra) is not dict:
        return
    for name in _IN_EXTRA_BODY:
        if name in extra:
            _strip(extra, name, f"{path}{_EXTRA_BODY}.", stripped)
    options = extra.get("stream_options")
    if type(options) is dict and "include_usage" in options and options["include_usage"] is not True:
        _strip(options, "include_usage", f"{path}{_EXTRA_BODY}.stream_options.", stripped)


def _strip_nested(data: dict[str, Any], owned: str | None, stripped: list[str]) -> None:
    """Strip what a fallback or a router of the client's would merge into the call after every hook.

    Both are walked level by level; what lies deeper than LiteLLM would go is dropped.
    """
    waiting: list[tuple[str, object, int]] = [(n, data[n], 0) for n in FALLBACKS if n in data]
    override = data.get(_OVERRIDE)
    if type(override) is dict and _is_the_clients(data, _OVERRIDE):
        waiting += [(f"{_OVERRIDE}.{n}", override[n], 0) for n in FALLBACKS if n in override]
    waiting += [(n, data[n], 0) for n in _REFUSED if n in data]
    nodes = 0
    while waiting:
        path, node, depth = waiting.pop()
        if type(node) is dict:
            is_entry = not path.startswith(tuple(_REFUSED))
            _strip_entry(node, path, owned, stripped, is_entry=is_entry)
            inner = [(f"{path}.{name}", value) for name, value in node.items() if isinstance(name, str)]
        elif type(node) is list:
            inner = [(f"{path}[{i}]", value) for i, value in enumerate(node)]
        else:
            continue
        nodes += len(node)
        deeper = [(at, value) for at, value in inner if type(value) in (dict, list)]
        if not deeper:
            continue
        if nodes > MAX_NODES or depth >= 2 * MAX_ENTRIES_DEEP:
            node.clear()
            stripped.append(path)
            continue
        if type(node) is dict and isinstance(node.get("model"), str):
            # An entry: only its own fallbacks are merged; all else in it is the provider's.
            deeper = [(at, value) for at, value in deeper if at.rpartition(".")[2] in FALLBACKS]
        waiting += [(at, value, depth + 1) for at, value in deeper]


def _strip_entry(
    entry: dict[Any, Any], path: str, owned: str | None, stripped: list[str], *, is_entry: bool
) -> None:
    """Strip one dict of those walked."""
    refused = _BELOW if is_entry else _IN_A_ROUTER
    if is_entry and "model" not in entry and all(type(value) is list for value in entry.values()):
        # `{"model group": ["fallback", …]}`: such names may be models'.
        refused -= _MAY_BE_A_MODEL
    for name in [n for n in entry if n in refused or (isinstance(n, str) and _PRICE in n)]:
        if name == _MAX_RETRIES:
            _end_retries(entry, f"{path}.{name}", stripped)
        elif name == "metadata" and owned == "litellm_metadata" and type(entry[name]) is dict:
            # The provider's own, on /v1/messages and /v1/responses.
            _strip_metadata(entry[name], f"{path}.{name}", stripped, is_the_proxys=False)
        else:
            _strip(entry, name, f"{path}.", stripped)
    _strip_extra_body(entry, f"{path}.", stripped)
