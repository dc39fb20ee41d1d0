"""A refusal as LiteLLM's own exception, in the status of the LiteLLM that is installed."""

from datetime import UTC, datetime

import litellm
import pytest

from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Subject
from spendmeter_gateway.admission.decide import BLIND_AT_START, Denied
from spendmeter_gateway.admission.refusal import refusal_of
from spendmeter_gateway.litellm.compat import litellm_status, native_status
from spendmeter_gateway.litellm.server.refusal_response import refused
from spendmeter_gateway.model import Caller

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALLER = Caller(Subject(key="abc"), "my-key")
SPENT = Denied(Why.LIMIT_REACHED, None, None, NanoUsd(2), NanoUsd(1), None)


@pytest.mark.parametrize(
    ("is_fixed", "setting", "status"),
    [
        (True, None, 400),
        (False, None, 429),
        (False, 422, 422),
        (False, 429, 429),
        (False, 400, 400),
        (False, "422", 429),
        (False, 200, 429),
        (False, True, 429),
    ],
)
def test_the_status_is_the_one_that_this_litellm_answers_by_itself(
    is_fixed: bool, setting: object, status: int
) -> None:
    assert native_status(setting, is_fixed=is_fixed) == status


def test_the_setting_counts_once_it_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert litellm_status() == litellm.budget_exceeded_status_code
    monkeypatch.setattr(litellm, "budget_exceeded_status_code", 429)

    assert litellm_status() == 429
    assert refused(refusal_of(SPENT, CALLER, NOW)).code == "429"


def test_a_litellm_without_the_setting_refuses_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(litellm, "budget_exceeded_status_code")

    assert refused(refusal_of(SPENT, CALLER, NOW)).code == "429"


def test_the_router_never_tries_again_what_was_refused() -> None:
    for refuse in (SPENT, BLIND_AT_START):
        error = refused(refusal_of(refuse, CALLER, NOW))
        assert not litellm._should_retry(error.status_code)


def test_the_body_names_the_control() -> None:
    error = refused(refusal_of(SPENT._replace(why=Why.CONTROL, named="user_config"), CALLER, NOW))

    assert (error.code, error.type, error.param) == ("400", "invalid_request_error", "user_config")
