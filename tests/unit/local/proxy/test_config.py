"""A LiteLLM configuration is completed, never overruled."""

from pathlib import Path

import pytest
import yaml

from spendmeter_local.proxy.config import AUTH, CALLBACK, completed
from spendmeter_local.proxy.config import SHIPPED_CONFIG as CONFIG

MINE = {"model_list": [], "litellm_settings": {"callbacks": ["prometheus"], "drop_params": True}}


def test_the_shipped_configuration_lacks_nothing() -> None:
    assert completed(yaml.safe_load(CONFIG.read_text()))[1] == []


def test_the_file_for_other_proxies_attaches_the_callback_in_one_line() -> None:
    written = yaml.safe_load(Path("deploy/litellm/config.yaml").read_text())

    assert written["litellm_settings"]["callbacks"] == CALLBACK


def test_what_is_missing_is_added_beside_what_is_there() -> None:
    found, added = completed(MINE)

    assert found["litellm_settings"] == {
        "callbacks": ["prometheus", CALLBACK],
        "drop_params": True,
        "global_disable_no_log_param": True,
        "enable_post_custom_auth_checks": True,
    }
    assert found["general_settings"]["custom_auth"] == AUTH
    assert len(added) == 3
    assert MINE["litellm_settings"] == {"callbacks": ["prometheus"], "drop_params": True}


def test_an_own_custom_auth_stays() -> None:
    found, added = completed({"general_settings": {"custom_auth": "mine.auth"}})

    assert found["general_settings"] == {"custom_auth": "mine.auth"}
    assert not [line for line in added if "custom_auth" in line]


@pytest.mark.parametrize("config", [{}, {"litellm_settings": None, "general_settings": None}])
def test_an_empty_section_is_none(config: dict[str, None]) -> None:
    found, _ = completed(config)

    assert found["litellm_settings"]["callbacks"] == [CALLBACK]
