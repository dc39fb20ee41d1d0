"""The mapping, on what LiteLLM 1.106.2 really passes: payloads/ holds one example of each kind."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import spendmeter_gateway
from spendmeter.contract.usage import CostSource, Doubt, Status, UsageEvent
from spendmeter.values.ids import uuid7
from spendmeter.values.times import EPOCH
from spendmeter_gateway.litellm.fields import finish_time
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Origin

PAYLOADS = {path.stem: path for path in (Path(__file__).parent / "payloads").glob("*.json")}
REQUEST_ID = UUID("01935000-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 22, 13, tzinfo=UTC)
SECRET = "what nobody but the model may read"


def payload(name: str) -> dict[str, Any]:
    kwargs: dict[str, Any] = json.loads(PAYLOADS[name].read_text())
    return kwargs


def event_of(kwargs: Mapping[str, Any], request_id: UUID = REQUEST_ID) -> UsageEvent:
    draft = usage_of(read_log_event(kwargs), event_id=request_id, occurred_at=NOW)
    assert draft is not None
    return draft.finish(Origin("producer-1", "gateway-1"), 7)


def mapped(name: str) -> UsageEvent:
    return event_of(payload(name))


def with_cost(cost: object, name: str = "chat") -> dict[str, Any]:
    kwargs = payload(name)
    kwargs["response_cost"] = kwargs["standard_logging_object"]["response_cost"] = cost
    return kwargs


def with_model_cost(cost: object, name: str = "chat") -> dict[str, Any]:
    """LiteLLM found no price: it says None of the model's cost, and 0.0 in its payload."""
    kwargs = payload(name)
    kwargs["response_cost"], kwargs["standard_logging_object"]["response_cost"] = cost, cost or 0.0
    return kwargs


def test_a_chat_completion_names_who_used_what_and_at_which_price() -> None:
    event = mapped("chat")

    assert event == UsageEvent(
        event_id=event.event_id,
        producer_id="producer-1",
        seq=7,
        gateway="gateway-1",
        occurred_at=NOW,
        started_at=datetime(2026, 11, 22, 12, 10, 9, 386275, tzinfo=UTC),
        key=hashlib.sha256(b"plain-key-in-clear").hexdigest(),
        key_alias="alias-a",
        user="user-1",
        team="team-1",
        organization="org-1",
        project="proj-1",
        end_user="enduser-1",
        tags=("t1", "k1"),
        model="gpt-4o-mini",
        model_group="gpt",
        provider="openai",
        deployment="b5d6b92d267cec5a30e0cfc25dbcae22301a6deb1b463fd7849ed3eb4c325f20",
        call_type="acompletion",
        input_tokens=100,
        output_tokens=40,
        cache_read_tokens=30,
        reasoning_tokens=12,
        total_tokens=140,
        cost_nanousd=36_750,
        cost_source=CostSource.LITELLM,
        prices={
            "input_token": "0.00000015",
            "output_token": "0.0000006",
            "cache_read_token": "0.000000075",
            "version": "litellm 1.106.2",
        },
        duration_ms=499,
        call_id="1d721bea-975c-4a68-bfa8-725a6e5901ff",
        response_id="chatcmpl-up1",
    )


@pytest.mark.parametrize("name", ["claude_chat", "messages", "messages_stream", "messages_stream_cut"])
def test_anthropic_input_includes_what_the_cache_read_and_wrote(name: str) -> None:
    event = mapped(name)

    assert (event.input_tokens, event.cache_read_tokens, event.cache_write_tokens) == (100, 30, 20)


def test_a_raw_anthropic_usage_which_excludes_the_cache_is_made_inclusive() -> None:
    kwargs = payload("messages")
    kwargs["standard_logging_object"] |= {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    kwargs["standard_logging_object"]["metadata"]["usage_object"] = {
        "input_tokens": 50,
        "output_tokens": 40,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 20,
    }

    event = event_of(kwargs)

    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (100, 40, 140)


@pytest.mark.parametrize(
    ("name", "cost_nanousd"),
    [
        ("custom_price", 819_000),  # 0.0008190000000000001 in LiteLLM's float
        ("messages", 834_000),
        ("responses", 36_750),
        ("responses_stream", 36_750),
        ("embedding", 180),
    ],
)
def test_the_cost_is_litellms_shortest_decimal_to_the_nano_dollar(name: str, cost_nanousd: int) -> None:
    event = mapped(name)

    assert (event.cost_nanousd, event.cost_source) == (cost_nanousd, CostSource.LITELLM)


def test_the_cost_of_guardrails_is_part_of_the_cost() -> None:
    kwargs = payload("chat")
    kwargs["standard_logging_object"]["response_cost"] += 1e-6

    assert event_of(kwargs).cost_nanousd == 37_750


def test_a_call_that_reads_bills_nothing_where_litellm_could_not_build_its_payload() -> None:
    read = {"call_type": "alist_batches", "response_cost": None, "standard_logging_object": None}

    assert usage_of(read_log_event(read), event_id=REQUEST_ID, occurred_at=NOW) is None
    assert event_of(read | {"call_type": "acompletion"}).cost_source is CostSource.UNPRICED


def test_a_part_of_a_cost_that_is_no_number_is_none() -> None:
    kwargs = payload("chat")
    kwargs["standard_logging_object"]["cost_breakdown"] = {"input_cost": True, "output_cost": 10**400}

    assert (event_of(kwargs).cost_nanousd, event_of(kwargs).cost_doubt) == (36_750, Doubt.NONE)


def test_custom_prices_are_named_as_custom() -> None:
    assert mapped("custom_price").prices == {
        "input_token": "0.000003",
        "output_token": "0.000015",
        "cache_read_token": "0.0000003",
        "version": "custom",
    }


def test_a_model_without_a_price_is_unpriced_and_not_free() -> None:
    event = mapped("unknown_model")

    assert (event.cost_nanousd, event.cost_source, event.prices) == (0, CostSource.UNPRICED, {})


def test_a_model_that_the_operator_made_free_is_free() -> None:
    event = mapped("custom_price_zero")

    assert (event.cost_nanousd, event.cost_source) == (0, CostSource.LITELLM)


def test_a_cost_that_litellm_could_not_work_out_is_reckoned_from_the_tokens() -> None:
    event = event_of(with_model_cost(None))

    assert (event.cost_nanousd, event.cost_source) == (36_750, CostSource.TOKENS)
    assert event.cost_doubt is Doubt.ZERO


def test_a_cost_that_nobody_can_work_out_is_unpriced() -> None:
    event = event_of(with_model_cost(None, "unknown_model"))

    assert (event.cost_source, event.cost_doubt) == (CostSource.UNPRICED, Doubt.NONE)


def test_an_answer_from_the_cache_is_free_and_says_why() -> None:
    event = mapped("cache_hit")

    assert (event.cost_nanousd, event.cost_source, event.cache_hit) == (0, CostSource.CACHE, True)


NO_COSTS = [-0.5, float("nan"), float("inf"), 1e12, "0.5", True]


@pytest.mark.parametrize("cost", NO_COSTS)
def test_what_cannot_be_a_cost_is_recorded_as_unpriced_and_told(cost: object) -> None:
    draft = usage_of(read_log_event(with_cost(cost, "unknown_model")), event_id=REQUEST_ID, occurred_at=NOW)

    assert draft is not None
    assert draft.doubt is not None
    event = draft.finish(Origin("p", "g"), 1)
    assert (event.cost_nanousd, event.cost_source) == (0, CostSource.UNPRICED)
    assert event.cost_doubt is Doubt.NOT_A_COST


@pytest.mark.parametrize("cost", NO_COSTS)
def test_what_cannot_be_a_cost_beside_priced_tokens_is_reckoned_from_them(cost: object) -> None:
    event = event_of(with_cost(cost))

    assert (event.cost_nanousd, event.cost_source) == (36_750, CostSource.TOKENS)
    assert event.cost_doubt is Doubt.NOT_A_COST


def test_a_cost_in_order_leaves_no_doubt() -> None:
    draft = usage_of(read_log_event(payload("chat")), event_id=REQUEST_ID, occurred_at=NOW)

    assert draft is not None
    assert draft.doubt is None


def test_a_failure_that_the_provider_bills_keeps_its_cost() -> None:
    event = event_of(with_cost(0.25, "upstream_failure"))

    assert (event.cost_nanousd, event.status) == (250_000_000, Status.FAILURE)


def test_a_failure_that_cost_nothing_is_recorded_without_an_alarm() -> None:
    event = mapped("upstream_failure")

    assert (event.cost_nanousd, event.cost_source) == (0, CostSource.LITELLM)
    assert event.status is Status.FAILURE


def test_a_budget_refusal_is_no_usage() -> None:
    assert usage_of(read_log_event(payload("refused")), event_id=REQUEST_ID, occurred_at=NOW) is None


@pytest.mark.parametrize(
    "told_by", [{"error_class": "BudgetExceededError"}, {"normalized_error": "429_BUDGET_EXCEEDED"}]
)
def test_litellms_own_refusal_is_no_usage(told_by: dict[str, str]) -> None:
    kwargs = payload("upstream_failure")
    kwargs["standard_logging_object"]["error_information"] = told_by

    assert usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW) is None


def test_a_refusal_is_known_by_the_exception_where_litellm_does_not_classify_it() -> None:
    class Refusal(Exception):
        type = "budget_exceeded"

    kwargs = payload("upstream_failure") | {"exception": Refusal()}

    assert usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW) is None


def test_reading_a_stored_response_again_is_no_usage() -> None:
    assert (
        usage_of(read_log_event(payload("responses_retrieved")), event_id=REQUEST_ID, occurred_at=NOW) is None
    )


def test_a_background_response_is_billed_where_it_is_read_for_its_creation_was_not() -> None:
    kwargs = with_cost(0.5, "responses_retrieved")
    kwargs["standard_logging_object"]["response"]["background"] = True

    assert event_of(kwargs).cost_nanousd == 500_000_000


@pytest.mark.parametrize(
    "call_type", ["acreate_batch", "afile_content", "alist_input_items", "avector_store_list"]
)
def test_a_call_that_only_manages_things_raises_no_alarm_about_prices(call_type: str) -> None:
    kwargs = with_cost(None, "responses_retrieved")
    kwargs["standard_logging_object"]["call_type"] = call_type

    assert usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW) is None


@pytest.mark.parametrize("call_type", ["aimage_generation", "aspeech", "acreate_video", "arerank", "asearch"])
def test_a_call_without_tokens_and_price_is_unpriced(call_type: str) -> None:
    kwargs = with_cost(None, "responses_retrieved")
    kwargs["standard_logging_object"]["call_type"] = call_type

    assert event_of(kwargs).cost_source is CostSource.UNPRICED


@pytest.mark.parametrize("name", ["chat_stream_cut", "messages_stream_cut", "responses_stream_cut"])
def test_a_stream_that_its_client_left_is_an_estimate(name: str) -> None:
    event = mapped(name)

    assert (event.estimated, event.streamed, event.status) == (True, True, Status.SUCCESS)


@pytest.mark.parametrize("name", ["chat", "chat_stream", "messages_stream", "responses_stream"])
def test_an_answer_that_was_read_to_its_end_is_no_estimate(name: str) -> None:
    event = mapped(name)

    assert (event.estimated, event.streamed) == (False, "stream" in name)


@pytest.mark.parametrize("name", sorted(set(PAYLOADS) - {"refused", "responses_retrieved"}))
def test_no_key_in_clear_and_nothing_that_was_written_or_answered_leaves(name: str) -> None:
    kwargs = payload(name)
    kwargs |= {
        "messages": [{"role": "user", "content": SECRET}],
        "input": SECRET,
        "original_response": SECRET,
    }
    kwargs["litellm_params"]["proxy_server_request"] = {
        "body": {"messages": SECRET},
        "headers": {"a": SECRET},
    }
    kwargs["exception"] = RuntimeError(SECRET)
    logged = kwargs["standard_logging_object"]
    logged |= {"messages": SECRET, "error_str": SECRET, "model_parameters": {"stop": SECRET}}
    logged["response"]["choices"] = [{"finish_reason": "stop", "message": {"content": SECRET}}]
    logged["metadata"] |= {"requester_metadata": {"note": SECRET}, "spend_logs_metadata": {"note": SECRET}}
    (logged["error_information"] or {}).update(error_message=SECRET, traceback=SECRET)

    told = event_of(kwargs).model_dump_json()

    assert SECRET not in told
    assert "plain-key-in-clear" not in told


def test_a_key_that_litellm_hashed_stays_as_it_is() -> None:
    kwargs = payload("chat")
    kwargs["standard_logging_object"]["metadata"]["user_api_key_hash"] = "ab" * 32

    assert event_of(kwargs).key == "ab" * 32


def test_without_litellms_payload_cost_and_key_are_still_recorded() -> None:
    kwargs = payload("chat") | {"standard_logging_object": None}

    event = event_of(kwargs)

    assert (event.cost_nanousd, event.user, event.team) == (36_750, "user-1", "team-1")
    assert event.key == hashlib.sha256(b"plain-key-in-clear").hexdigest()


def test_what_a_client_chooses_cannot_outgrow_a_record() -> None:
    kwargs = payload("chat")
    kwargs["standard_logging_object"] |= {
        "end_user": "\ud800" + "x" * 10**6,
        "session_id": "\x00" * 10**6,
        "request_tags": [f"{i}" + "€" * 10**4 for i in range(1_000)],
    }

    assert len(event_of(kwargs).model_dump_json().encode()) < 64 * 1024


def test_a_gateway_clock_that_steps_back_leaves_no_event_that_ended_before_it_began() -> None:
    kwargs = payload("chat")
    kwargs["standard_logging_object"]["startTime"] = (NOW + timedelta(hours=1)).timestamp()

    event = event_of(kwargs)

    assert (event.started_at, event.duration_ms) == (NOW, 0)


class TestEventIds:
    """Which id an event gets."""

    def test_the_id_is_the_one_that_the_pre_call_hook_minted(self) -> None:
        assert read_log_event(payload("chat")).request_id == REQUEST_ID
        assert read_log_event(payload("responses")).request_id == REQUEST_ID

    def test_a_call_that_no_hook_saw_has_none(self) -> None:
        assert read_log_event({}).request_id is None

    @pytest.mark.parametrize("forged", ["forged", str(UUID(int=4, version=4)), 7, ["x"]])
    def test_what_is_no_id_of_ours_is_none(self, forged: object) -> None:
        assert (
            read_log_event({"litellm_params": {"metadata": {"spendmeter_event_id": forged}}}).request_id
            is None
        )

    def test_two_ids_that_differ_are_not_both_ours(self) -> None:
        kwargs = payload("responses")
        kwargs["litellm_params"]["metadata"]["spendmeter_event_id"] = str(uuid7(1))

        assert read_log_event(kwargs).request_id is None

    def test_the_same_log_event_gets_the_same_id_again(self) -> None:
        assert mapped("chat").event_id == mapped("chat").event_id

    def test_the_id_is_a_uuid7_of_the_requests_millisecond(self) -> None:
        event_id = mapped("chat").event_id

        assert event_id.version == 7
        assert event_id.int >> 80 == REQUEST_ID.int >> 80

    def test_a_failed_attempt_and_the_retry_that_succeeded_are_two_events(self) -> None:
        failure, success = payload("upstream_failure"), payload("chat")
        failure["standard_logging_object"]["litellm_call_id"] = success["standard_logging_object"][
            "litellm_call_id"
        ]

        assert event_of(failure).event_id != event_of(success).event_id

    def test_two_failed_deployments_of_one_call_are_two_events(self) -> None:
        one = payload("upstream_failure")
        other = deepcopy(one)
        other["standard_logging_object"]["model_id"] = "another"

        assert event_of(one).event_id != event_of(other).event_id

    def test_two_answers_to_one_request_are_two_events(self) -> None:
        one = payload("chat")
        other = deepcopy(one)
        other["standard_logging_object"]["id"] = "chatcmpl-up2"

        assert event_of(one).event_id != event_of(other).event_id

    def test_the_same_answer_to_two_requests_is_two_events(self) -> None:
        """LiteLLM's mock answers carry a constant id."""
        assert mapped("chat").event_id != event_of(payload("chat"), uuid7(1)).event_id


@pytest.mark.parametrize(
    ("end_time", "expected"),
    [
        (NOW - timedelta(seconds=1), NOW - timedelta(seconds=1)),
        (NOW + timedelta(microseconds=1), NOW),
        (EPOCH, EPOCH),
        (EPOCH - timedelta(microseconds=1), EPOCH),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), NOW),
        (None, NOW),
        (0.0, NOW),
    ],
)
def test_a_call_finished_between_1970_and_now(end_time: object, expected: datetime) -> None:
    assert finish_time(end_time, NOW) == expected


def without_input(name: str, *, output_tokens: int, cost: float) -> dict[str, Any]:
    kwargs = payload(name)
    logged = kwargs["standard_logging_object"]
    logged |= {"prompt_tokens": 0, "completion_tokens": output_tokens, "total_tokens": output_tokens}
    logged["metadata"]["usage_object"] = {}
    kwargs["response_cost"] = logged["response_cost"] = cost
    return kwargs | {"messages": [{"role": "user", "content": "some words to be counted"}]}


@pytest.mark.parametrize(
    ("name", "output_tokens", "cost"),
    [("messages_stream", 40, 0.0006), ("responses_stream", 40, 0.0006), ("messages", 0, 0.0006)],
)
def test_an_answer_without_what_went_in_is_an_estimate(name: str, output_tokens: int, cost: float) -> None:
    event = event_of(without_input(name, output_tokens=output_tokens, cost=cost))

    assert event.estimated
    assert event.input_tokens > 0
    assert event.output_tokens >= output_tokens
    assert event.cost_nanousd >= round(cost * 1e9)


def test_an_answer_that_is_billed_by_the_second_needs_no_tokens() -> None:
    kwargs = without_input("chat", output_tokens=0, cost=0.0006)
    kwargs["standard_logging_object"]["call_type"] = kwargs["call_type"] = "atranscription"
    assert not event_of(kwargs).estimated


def test_one_file_reads_what_litellm_logs() -> None:
    package = Path(spendmeter_gateway.__file__).parent
    readers = {p.name for p in package.rglob("*.py") if 'get("standard_logging_object")' in p.read_text()}

    assert readers == {"logged_call.py", "response.py"}, "response.py writes one, of an answer"
