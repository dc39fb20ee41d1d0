"""From the calls on a provider's object to its one bill."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.provider_object import (
    BILLED_WITHIN,
    MAX_NAME_CHARS,
    ObjectKind,
    ProviderObject,
    object_event_id,
    object_name,
)
from spendmeter.contract.usage import CREATOR_UNKNOWN, CostSource, UsageEvent
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.payload.provider_objects import (
    Sighting,
    bill_of,
    is_billed_apart,
    is_to_be_billed,
    made_by,
    maker_of,
    makes,
    own_id,
    sighting_in,
)
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Origin, UsageDraft
from spendmeter_stream.meter.meter import KEEP_PRODUCERS

REQUEST = UUID("019a2c5e-5c00-7abc-8def-0123456789ab")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CREATED = int((NOW - timedelta(minutes=5)).timestamp())
RETRIEVED = json.loads((Path(__file__).parent / "payloads" / "responses_retrieved.json").read_text())


def encoded(said: str, prefix: str = "resp_", *, is_url_safe: bool = False) -> str:
    text = base64.urlsafe_b64encode(said.encode()) if is_url_safe else base64.b64encode(said.encode())
    return prefix + (text.decode().rstrip("=") if is_url_safe else text.decode())


DEPLOYED = encoded("litellm:custom_llm_provider:openai;model_id:abc;response_id:resp_1")
CIPHER = "resp_gAAAA-nobody_reads_this"


def decrypt(shown: str) -> str:
    return DEPLOYED if shown == CIPHER else shown


@pytest.mark.parametrize(
    ("shown", "own"),
    [
        ("resp_1", "resp_1"),
        (DEPLOYED, "resp_1"),
        (CIPHER, "resp_1"),
        (encoded("litellm:batch_1;model,gpt-4o", "batch_", is_url_safe=True), "batch_1"),
        (
            encoded("litellm:3814889423749775360;model,gemini", "batch_", is_url_safe=True),
            "3814889423749775360",
        ),
        (encoded("litellm_proxy;model_id:abc;llm_batch_id:batch_1", ""), "batch_1"),
        (encoded("litellm_proxy;model_id:abc;generic_response_id:ftjob-1", ""), "ftjob-1"),
        (encoded("litellm:custom_llm_provider:openai;model_id:;video_id:video_1", "video_"), "video_1"),
        ("", ""),
        ("resp_" + "a" * 64, "resp_" + "a" * 64),
        ("batch_%%%", "batch_%%%"),
        ("projects/1/locations/x/batchPredictionJobs/2", "projects/1/locations/x/batchPredictionJobs/2"),
    ],
)
def test_every_form_of_an_id_holds_the_providers_own(shown: str, own: str) -> None:
    assert own_id(shown, decrypt) == own


def test_an_object_has_one_name_and_its_event_one_id() -> None:
    name = object_name("openai", "resp_1")
    assert name == "openai/resp_1"
    assert object_event_id(name) == object_event_id(name)
    assert object_event_id(name) != object_event_id(object_name("azure", "resp_1"))
    assert (object_event_id(name).version, object_event_id(name).variant) == (7, "specified in RFC 4122")


@pytest.mark.parametrize("own", ["x" * MAX_NAME_CHARS, "a\nb", "ü", "\ud800"])
def test_an_id_that_is_no_name_is_named_by_its_hash(own: str) -> None:
    name = object_name("openai", own)
    assert name.startswith("openai/sha256:")
    assert len(name) <= MAX_NAME_CHARS
    assert object_name("openai", own + "y") != name


def test_what_was_billed_is_remembered_for_longer_than_a_bill_is_made() -> None:
    assert BILLED_WITHIN < KEEP_PRODUCERS


def event_of(call_type: str, response: object, **fields: Any) -> dict[str, Any]:
    """A log event of such a call; `fields` are the payload's."""
    payload = {**RETRIEVED["standard_logging_object"], "call_type": call_type, "response": {}, **fields}
    return {
        **RETRIEVED,
        "standard_logging_object": payload,
        "optional_params": {"response_id": "resp_1"},
        "call_type": call_type,
        "response_cost": payload.get("response_cost"),
    }


def response(status: str = "completed", **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"id": CIPHER, "status": status, "background": True, "created_at": CREATED, **fields}
    )


def sighted(call_type: str = "aget_responses", shown: object = None, **fields: Any) -> Sighting:
    shown = response() if shown is None else shown
    seen = sighting_in(read_log_event(event_of(call_type, shown, **fields)), shown, decrypt)
    assert seen is not None
    return seen


MAKER = ProviderObject(
    object_id="openai/resp_1",
    kind=ObjectKind.RESPONSE,
    created_at=NOW,
    gateway="g1",
    key="maker",
    team="t1",
    tags=("nightly",),
    model_group="smart",
)


def draft(**fields: Any) -> UsageDraft:
    found = usage_of(
        read_log_event(event_of("aget_responses", response(), response_cost=0.0035)),
        event_id=REQUEST,
        occurred_at=NOW,
        is_bill=True,
    )
    assert found is not None
    return found._replace(fields={**found.fields, "key": "reader", **fields})


def billed(
    seen: Sighting | None = None, made: ProviderObject | None = MAKER, **fields: Any
) -> UsageEvent | None:
    found = bill_of(draft(**fields), seen or sighted(), made, NOW)
    return found and found.finish(Origin("p1", "g2"), 7)


def test_a_bill_is_its_makers_and_bears_the_objects_name() -> None:
    event = billed()

    assert event is not None
    assert (event.key, event.team, event.tags, event.model_group) == ("maker", "t1", ("nightly",), "smart")
    assert (event.object_id, event.response_id) == ("openai/resp_1", "resp_1")
    assert event.event_id == object_event_id("openai/resp_1")
    assert (event.producer_id, event.seq, event.reason) == ("p1", 7, "")
    assert event.cost_nanousd == 3_500_000


def test_where_nobody_knows_the_maker_the_reader_pays_and_the_event_says_so() -> None:
    event = billed(made=None)

    assert event is not None
    assert (event.key, event.reason) == ("reader", CREATOR_UNKNOWN)
    assert event.event_id == object_event_id("openai/resp_1"), "it is the same bill"


def test_the_end_that_the_provider_tells_decides_the_window() -> None:
    ended = billed(sighted(shown=response(completed_at=CREATED + 60)))
    untold = billed()

    assert ended is not None
    assert untold is not None
    assert ended.occurred_at == NOW - timedelta(minutes=4)
    assert (ended.started_at, ended.duration_ms) == (NOW - timedelta(minutes=5), 60_000)
    assert untold.occurred_at == NOW - timedelta(minutes=5)


def test_an_end_in_the_future_is_now() -> None:
    event = billed(sighted(shown=response(completed_at=CREATED + 86_400)))
    assert event is not None
    assert event.occurred_at == NOW


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelling", "validating"])
def test_what_is_not_finished_is_no_bill(status: str) -> None:
    assert billed(sighted(shown=response(status))) is None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete", "expired"])
def test_whatever_way_it_ended_it_is_billed(status: str) -> None:
    assert billed(sighted(shown=response(status))) is not None


def test_a_read_that_shows_no_usage_is_no_bill_for_another_may() -> None:
    assert billed(cost_nanousd=0, total_tokens=0) is None
    assert billed(cost_nanousd=0, total_tokens=1, cost_source=CostSource.UNPRICED) is not None


def test_a_stream_that_was_left_is_no_bill_for_the_response_goes_on() -> None:
    assert billed(estimated=True) is None


@pytest.mark.parametrize(("age", "is_billed"), [(BILLED_WITHIN, True), (BILLED_WITHIN * 1.01, False)])
def test_what_ended_long_ago_is_billed_no_more(age: timedelta, is_billed: bool) -> None:
    ended = int((NOW - age).timestamp())
    assert (billed(sighted(shown=response(created_at=ended))) is not None) is is_billed


@pytest.mark.parametrize(
    ("models", "model"), [(["gpt-4o-mini"] * 2, "gpt-4o-mini"), (["a", "b"], "mixed"), ([], ""), (None, "")]
)
def test_a_batch_bears_the_model_of_its_lines(models: list[str] | None, model: str) -> None:
    batch = SimpleNamespace(id="batch_1", status="completed", created_at=CREATED)
    seen = sighted("aretrieve_batch", batch, hidden_params={"batch_models": models})
    made = MAKER.model_copy(update={"model_group": ""})

    event = billed(seen, made, model="", model_group="")

    assert event is not None
    assert (event.model, event.model_group) == (model, model)


def test_a_finished_tuning_job_is_billed_by_what_it_trained() -> None:
    job = SimpleNamespace(id="ftjob-1", status="succeeded", created_at=CREATED, trained_tokens=5_000)
    kwargs = event_of("aretrieve_fine_tuning_job", job, response_cost=None, total_tokens=0, prompt_tokens=0)
    kwargs["standard_logging_object"] |= {"completion_tokens": 0, "metadata": {}}
    found = usage_of(read_log_event(kwargs), event_id=REQUEST, occurred_at=NOW, is_bill=True)

    bill = bill_of(found, sighted("aretrieve_fine_tuning_job", job), MAKER, NOW)

    assert bill is not None
    assert (bill.fields["input_tokens"], bill.fields["cost_source"]) == (5_000, CostSource.UNPRICED)


@pytest.mark.parametrize("call_type", ["acompletion", "aresponses", "alist_batches", "aembedding", "", None])
def test_most_calls_are_on_no_object(call_type: str | None) -> None:
    shown = SimpleNamespace(id="resp_1", status="completed", background=None)
    assert sighting_in(read_log_event(event_of(str(call_type), shown)), shown) is None


def test_a_response_outside_the_background_is_billed_by_its_call() -> None:
    seen = sighted(shown=response(background=None))
    assert not is_to_be_billed(seen, None)
    assert is_to_be_billed(seen, MAKER), "a provider need not say that it is in the background"


def test_an_answer_shows_what_was_made() -> None:
    made = made_by("aresponses", "openai", response("queued"), is_background=True, decrypt=decrypt)
    assert made is not None
    assert (made.object_id, made.is_made, made.is_finished) == ("openai/resp_1", True, False)
    one = maker_of(made, {"key": "k", "tags": ("a",), "cost_nanousd": 1}, NOW, "g1")
    assert (one.object_id, one.key, one.tags, one.gateway) == ("openai/resp_1", "k", ("a",), "g1")
    assert made_by("aresponses", "openai", response(background=None), is_background=False) is None
    assert made_by("acompletion", "openai", response(), is_background=True) is None


@pytest.mark.parametrize(
    "shown",
    [
        None,
        {},
        "text",
        SimpleNamespace(id=3, status=[], created_at="yesterday", trained_tokens="many"),
        {"id": ["x"], "created_at": -1, "completed_at": float("nan"), "background": True},
    ],
)
def test_whatever_is_answered_nothing_is_raised(shown: object) -> None:
    for call_type in (
        "aresponses",
        "aget_responses",
        "acreate_batch",
        "aretrieve_batch",
        "avideo_generation",
    ):
        seen = sighting_in(read_log_event(event_of(call_type, shown)), shown)
        made_by(call_type, "openai", shown, is_background=True)
        if seen is not None:
            bill_of(draft(), seen, None, NOW)


def test_which_calls_make_an_object_and_which_have_no_event_of_their_own() -> None:
    assert makes("aresponses")
    assert makes("create_batch")
    assert not makes("aretrieve_batch")
    assert is_billed_apart("acancel_responses", {})
    assert is_billed_apart("aresponses", {"background": True})
    assert not is_billed_apart("aresponses", {})
    assert not is_billed_apart("acompletion", {"background": True})
    assert not is_billed_apart("avideo_generation", {}), "it has its price when it is asked for"
