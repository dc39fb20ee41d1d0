"""Completes a LiteLLM configuration so that the local proxy is metered and has keys. Pure."""

import copy
from pathlib import Path
from typing import Any

SHIPPED_CONFIG = Path(__file__).with_name("litellm.yaml")
"""With the models of the fake upstream."""
CALLBACK = "spendmeter_gateway.callback"
AUTH = "spendmeter_local.proxy.auth.user_api_key_auth"

Config = dict[str, Any]


def completed(config: Config) -> tuple[Config, list[str]]:
    """The completed configuration, and a description of each addition."""
    config = copy.deepcopy(config)
    added: list[str] = []
    settings = _section(config, "litellm_settings")
    callbacks = settings.get("callbacks") or []
    callbacks = [callbacks] if isinstance(callbacks, str) else list(callbacks)
    if CALLBACK not in callbacks:
        settings["callbacks"] = [*callbacks, CALLBACK]
        added.append(f"litellm_settings.callbacks: {CALLBACK}")
    if settings.get("global_disable_no_log_param") is not True:
        settings["global_disable_no_log_param"] = True
        added.append("litellm_settings.global_disable_no_log_param: true")
    general = _section(config, "general_settings")
    if "custom_auth" not in general:
        general["custom_auth"] = AUTH
        general.setdefault("custom_auth_run_common_checks", True)
        settings.setdefault("enable_post_custom_auth_checks", True)
        added.append(f"general_settings.custom_auth: {AUTH}")
    return config, added


def _section(config: Config, name: str) -> Config:
    # An empty section reads as None.
    section: Config = config.get(name) or {}
    config[name] = section
    return section
