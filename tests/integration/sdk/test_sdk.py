"""A program that uses LiteLLM without a proxy: the fake upstream, the real Kafka."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import litellm
import pytest

from spendmeter.contract.budget import Budget
from spendmeter.contract.records import encode_budget
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import producer
from spendmeter.retry import Reached, SpendThresholds
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter.values.times import EPOCH
from spendmeter_gateway import gateway as gateways
from spendmeter_gateway.gateway import ERRORS, Gateway
from spendmeter_gateway.litellm import sdk
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from tests.patience import WITHIN_SECONDS

# In this process LiteLLM warns of its own models.
pytestmark = pytest.mark.filterwarnings("default")
COST = 21_000
"""Nano-USD of one call: 100 tokens in and 10 out of gpt-4o-mini."""
SAY: Any = [{"role": "user", "content": "hi [[in=100 out=10]]"}]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("upstream") / "upstream.log"
    process = start_child([sys.executable, "-m", "spendmeter_local.upstream", "--port", str(port)], log=log)
    try:
        url = f"http://{LOOPBACK}:{port}"
        assert wait_until(lambda: http_answers(f"{url}/health"), timeout_seconds=WITHIN_SECONDS)
        yield f"{url}/v1"
    finally:
        kill_child(process)


SLOW: Any = [{"role": "user", "content": "hi [[in=100 out=10 delay_ms=500]]"}]


class Program:
    """The program under test: its meter, and everything that it recorded."""

    def __init__(self, url: str) -> None:
        self.reached: list[Reached] = []
        self.meter = sdk.attach(SpendThresholds([0.5], self.reached.append))
        self.gateway: Gateway = self.meter._gateway()
        self.events: list[UsageEvent] = []
        self.to = {"api_base": url, "api_key": "sk-none"}
        record = self.gateway.record

        def recorded(*args: Any) -> UsageEvent | None:
            event = record(*args)
            if event is not None:
                self.events.append(event)
            return event

        self.gateway.record = recorded  # type: ignore[method-assign,assignment]

    async def ready(self) -> None:
        await until(lambda: self.gateway.views.are_read)

    async def has_recorded(self, events: int) -> UsageEvent:
        await until(lambda: len(self.events) >= events)
        return self.events[-1]

    async def has_recorded_of(self, user: str) -> UsageEvent:
        """This user's one event: LiteLLM may log those of an earlier test later than that has ended."""
        await until(lambda: any(event.user == user for event in self.events))
        (found,) = [event for event in self.events if event.user == user]
        return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def program_settings(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as environment:
        prefix = f"t{uuid4().hex[:12]}."
        for name, value in {
            "KAFKA_BOOTSTRAP": kafka,
            "TOPIC_PREFIX": prefix,
            "PARTITIONS": "1",
            "GATEWAY": "program",
            "DATA_DIR": str(tmp_path_factory.mktemp("program")),
        }.items():
            environment.setenv(f"SPENDMETER_{name}", value)
        settings = Settings()
        asyncio.run(create_topics(settings))
        yield settings


@pytest.fixture(scope="module")
def started(program_settings: Settings, upstream: str) -> Iterator[Program]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateways, "_the_gateway", None)
        made = Program(upstream)
        yield made
        made.meter.close()


@pytest.fixture
async def program(started: Program) -> AsyncIterator[Program]:
    await started.ready()
    started.events.clear()
    started.reached.clear()
    before = ERRORS.labels("admission")._value.get() + ERRORS.labels("recording")._value.get()
    yield started
    assert ERRORS.labels("admission")._value.get() + ERRORS.labels("recording")._value.get() == before


async def limit(
    program: Program, settings: Settings, calls: int, enforcement: str = "settled", **match: str
) -> Budget:
    """A budget for so many calls of a user of its own, in force."""
    user = f"u-{uuid4().hex[:8]}"
    fields = {
        "id": f"of-{user}",
        "match": {"user": user, **match},
        "limit_nanousd": calls * COST,
        "period": "day",
        "enforcement": enforcement,
        "updated_at": datetime.now(UTC),
    }
    made = Budget.model_validate(fields)
    key, value, headers = encode_budget(made)
    async with producer(settings) as kafka:
        await kafka.send_and_wait(settings.topic(Topic.BUDGETS), key=key, value=value, headers=headers)
    await until(lambda: program.gateway.views.budgets.book.get(made.id) is not None)
    return made


async def test_a_call_past_the_budget_raises_litellms_own_error_before_it_is_made(
    program: Program, program_settings: Settings
) -> None:
    budget = await limit(program, program_settings, 2, model="gpt-4o-mini", tag="nightly")
    ask = {"model": "openai/gpt-4o-mini", "messages": SAY, **program.to}
    with sdk.subject(user=budget.match["user"], tags=["nightly"]):
        for served in (1, 2):
            await litellm.acompletion(**ask)
            event = await program.has_recorded(served)
            assert (event.cost_nanousd, event.user, event.tags) == (COST, budget.match["user"], ("nightly",))
        with pytest.raises(litellm.BudgetExceededError) as refused:
            await litellm.acompletion(**ask)
        stream = await _refused(litellm.acompletion(**ask, stream=True))
    assert (refused.value.current_cost, refused.value.max_budget) == (2 * COST / 1e9, 2 * COST / 1e9)
    assert (refused.value.budget, refused.value.type) == (budget.id, "budget_exceeded")
    assert int(refused.value.headers["retry-after"]) >= 1
    assert stream.budget == budget.id
    await litellm.acompletion(**ask)
    assert (await program.has_recorded(3)).user is None, "outside the block the budget is another's"
    assert len(program.events) == 3, "a refusal is no event"
    assert [(one.fraction, one.budget) for one in program.reached] == [(0.5, budget.id)]


async def _refused(call: Any) -> Any:
    with pytest.raises(litellm.BudgetExceededError) as refused:
        await call
    return refused.value


async def test_a_blocking_call_is_recorded_once_and_admitted_where_it_is_guarded(
    program: Program, program_settings: Settings
) -> None:
    budget = await limit(program, program_settings, 1)
    completion = program.meter.guarded(litellm.completion)

    def ask(how: Callable[..., Any]) -> Any:
        with sdk.subject(user=budget.match["user"]):
            return how(model="openai/gpt-4o-mini", messages=SAY, **program.to)

    await asyncio.to_thread(ask, litellm.completion)
    assert (await program.has_recorded(1)).user == budget.match["user"]
    with pytest.raises(litellm.BudgetExceededError):
        await asyncio.to_thread(ask, completion)
    await asyncio.to_thread(ask, litellm.completion)
    await program.has_recorded(2)
    assert len(program.events) == 2, "unguarded, LiteLLM lets nothing stop it; recorded it is"


async def test_blocking_calls_in_a_row_stop_at_the_limit_though_nothing_is_logged(
    program: Program, program_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = await limit(program, program_settings, 3)
    completion = program.meter.guarded(litellm.completion)
    # LiteLLM logs on a thread of its own, whenever that comes to it: here not at all.
    monkeypatch.setattr(sdk.SpendmeterSdk, "log_success_event", lambda *_: None)

    def ask() -> int:
        served = 0
        with sdk.subject(user=budget.match["user"]), contextlib.suppress(litellm.BudgetExceededError):
            for _ in range(20):
                completion(model="openai/gpt-4o-mini", messages=SAY, **program.to)
                served += 1
        return served

    assert await asyncio.to_thread(ask) == 3


async def test_a_call_that_ended_before_1970_by_litellms_clock_is_recorded(
    program: Program, program_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, ended = sdk.SpendmeterSdk.log_success_event, datetime(1969, 12, 31, tzinfo=UTC)

    def log_success_event(
        meter: sdk.SpendmeterSdk, kwargs: Any, response_obj: object, start_time: object, end_time: object
    ) -> None:
        log(meter, kwargs, response_obj, start_time, ended)

    monkeypatch.setattr(sdk.SpendmeterSdk, "log_success_event", log_success_event)
    user = f"u-{uuid4().hex[:8]}"

    def ask() -> None:
        with sdk.subject(user=user):
            program.meter.guarded(litellm.completion)(model="openai/gpt-4o-mini", messages=SAY, **program.to)

    await asyncio.to_thread(ask)

    event = await program.has_recorded_of(user)
    assert (event.cost_nanousd, event.occurred_at) == (COST, EPOCH)


async def test_a_router_is_refused_without_a_retry(program: Program, program_settings: Settings) -> None:
    budget = await limit(program, program_settings, 2, model_group="chat")
    params = {"model": "openai/gpt-4o-mini", **program.to}
    router = litellm.Router(model_list=[{"model_name": "chat", "litellm_params": params}], num_retries=2)
    guarded = program.meter.guarded(router.completion)
    with sdk.subject(user=budget.match["user"]):
        await router.acompletion(model="chat", messages=SAY)
        assert (await program.has_recorded(1)).model_group == "chat"
        await asyncio.to_thread(guarded, model="chat", messages=SAY)
        assert (await program.has_recorded(2)).model_group == "chat"
        refused = await _refused(router.acompletion(model="chat", messages=SAY))
        assert refused.budget == budget.id
        with pytest.raises(litellm.BudgetExceededError):
            await asyncio.to_thread(guarded, model="chat", messages=SAY)
    assert len(program.events) == 2


async def test_a_strict_budget_holds_for_a_call_and_lets_go_when_it_ends_or_fails(
    program: Program, program_settings: Settings
) -> None:
    budget = await limit(program, program_settings, 3, "strict")
    holds = program.gateway.views.strict.holds
    fails: Any = [{"role": "user", "content": "hi [[status=500]]"}]
    ask = {"model": "openai/gpt-4o-mini", "max_tokens": 20, "max_retries": 0, **program.to}
    with sdk.subject(user=budget.match["user"]):
        running = asyncio.create_task(litellm.acompletion(messages=SLOW, **ask))
        await until(lambda: len(holds) == 1)
        await running
        await until(lambda: len(holds) == 0)
        with pytest.raises(litellm.InternalServerError):
            await litellm.acompletion(messages=fails, **ask)
        await until(lambda: len(holds) == 0)
        await asyncio.to_thread(program.meter.guarded(litellm.completion), messages=SAY, **ask)
        await until(lambda: len(holds) == 0)


CALLS: dict[str, Callable[[dict[str, str]], Any]] = {
    "aembedding": lambda to: litellm.aembedding(
        model="openai/text-embedding-3-small", input="hi [[in=100]]", **to
    ),
    "aresponses": lambda to: litellm.aresponses(model="openai/gpt-4o-mini", input="hi", **to),
    "anthropic_messages": lambda to: litellm.anthropic_messages(
        model="openai/gpt-4o-mini", max_tokens=10, messages=SAY, **to
    ),
    "a stream": lambda to: _drained(to),
}


async def _drained(to: dict[str, str]) -> None:
    async for _ in await litellm.acompletion(model="openai/gpt-4o-mini", messages=SAY, stream=True, **to):
        pass


@pytest.mark.parametrize("is_redacted", [False, True])
@pytest.mark.parametrize("call", CALLS)
async def test_every_kind_of_call_is_recorded_once_for_whom_it_was_admitted(
    program: Program,
    program_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    is_redacted: bool,
) -> None:
    """Where LiteLLM empties the texts before it logs a call, too."""
    monkeypatch.setattr(litellm, "turn_off_message_logging", is_redacted)
    budget = await limit(program, program_settings, 1)
    budget = budget.model_copy(update={"limit_nanousd": 1})
    user = budget.match["user"]
    with sdk.subject(user=user, session="s1"):
        await CALLS[call](program.to)
    event = await program.has_recorded_of(user)
    assert (event.user, event.session) == (user, "s1")
    assert event.cost_nanousd > 0


async def test_the_example_of_the_page_runs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "callbacks", [])
    monkeypatch.setenv("OPENAI_API_BASE", program.to["api_base"])
    monkeypatch.setenv("OPENAI_API_KEY", program.to["api_key"])
    page: dict[str, Any] = {}
    text = (Path(__file__).parents[3] / "docs" / "waiting.md").read_text(encoding="utf-8")
    exec(text.split("<!-- example: sdk -->\n```python\n")[1].split("```")[0], page)
    assert (await page["nightly"](SAY)).choices
    event = await program.has_recorded(1)
    assert (event.user, event.tags) == ("ada", ("nightly",))
    page["completion"](model="openai/gpt-4o-mini", messages=SAY)
    await program.has_recorded(2)
    assert len(program.events) == 2


def test_a_subject_adds_to_the_one_around_it() -> None:
    with sdk.subject(user="ada", tags=["a"]), sdk.subject(team="t", tags=["b"]):
        inner = sdk._subject.get()
    assert (inner.user, inner.team, inner.tags) == ("ada", "t", ("a", "b"))
    assert sdk._subject.get().user is None
    with pytest.raises(TypeError, match="no planet"), sdk.subject(planet="mars"):
        pass
