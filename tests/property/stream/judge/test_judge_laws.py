"""The judge's laws: totals merge in any order, what is told only moves forward, nothing is hidden."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.total import Total
from spendmeter.domain.matching import BudgetBook
from spendmeter_stream.judge.emission import COALESCE_FOR
from spendmeter_stream.judge.judge import Judge
from tests.builders import NOON, budget

ACCOUNT = "per-key|key=k1"
LIMIT = 1_000
WARN_AT = (0.25, 0.5, 0.8)
BOOK = BudgetBook([budget(limit_nanousd=LIMIT, warn_at=WARN_AT, period="lifetime")])
START = datetime.fromisoformat("1970-01-01T00:00:00Z")
# No deadline: the machine is shared.
LAW = settings(deadline=None)


class Step(NamedTuple):
    """A total, and how long after the one before it the judge hears of it."""

    total: Total
    after: timedelta


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """What three source partitions say of one account, each in its order, interleaved."""
    said = {0: (-1, 0, 0), 1: (-1, 0, 0), 2: (-1, 0, 0)}
    steps = []
    for _ in range(draw(st.integers(1, 15))):
        partition = draw(st.sampled_from(sorted(said)))
        last, spent, events = said[partition]
        added = draw(st.integers(0, 3))
        said[partition] = (
            last + 1 + draw(st.integers(0, 5)),
            spent + sum(draw(st.integers(0, 150)) for _ in range(added)),
            events + added,
        )
        total = Total(
            account=ACCOUNT,
            window_start=START,
            source_partition=partition,
            spent_nanousd=NanoUsd(said[partition][1]),
            events=said[partition][2],
            first_offset=0,
            last_offset=said[partition][0],
        )
        steps.append(Step(total, timedelta(milliseconds=draw(st.sampled_from([0, 10, 400, 1500])))))
    return steps


def final(totals: list[Total]) -> dict[int | str, int]:
    latest: dict[int | str, Total] = {}
    for total in totals:
        known = latest.get(total.source_partition)
        if known is None or known.last_offset < total.last_offset:
            latest[total.source_partition] = total
    return {source: total.spent_nanousd for source, total in latest.items()}


def components(judge: Judge) -> dict[int | str, int]:
    return {s: c.spent_nanousd for state in judge.accounts.values() for s, c in state.components.items()}


@given(histories(), st.randoms(use_true_random=False), st.integers(1, 3))
@LAW
def test_totals_merge_in_any_order_any_number_of_times(
    history: list[Step], random: object, times: int
) -> None:
    totals = [step.total for step in history]
    shuffled = totals * times
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Judge(), Judge()
    one.apply(totals)
    for total in shuffled:
        other.apply([total])
    assert components(one) == components(other) == final(totals)


def listen(history: list[Step], restart_before: int) -> tuple[list[Signal], list[Alert], datetime]:
    """Everything the judge says; before that step it is killed, restored, and replays all totals."""
    judge, now = Judge(), NOON
    signals, alerts = [], []
    kept: dict[bytes, bytes] = {}
    for n, (total, after) in enumerate(history):
        now += after
        if n == restart_before:
            judge = Judge.restore(kept.items())
            judge.apply(step.total for step in history[:n])
        judge.apply([total])
        said = judge.judge(BOOK, now)
        signals += said.signals
        alerts += said.alerts
        kept |= {key: value for key, value in said.entries if value is not None}
    now += COALESCE_FOR
    said = judge.judge(BOOK, now)
    return signals + said.signals, alerts + said.alerts, now


@given(histories(), st.integers(0, 15))
@LAW
def test_versions_and_watermarks_only_rise(history: list[Step], restart_before: int) -> None:
    signals, _, _ = listen(history, restart_before)
    for earlier, later in pairwise(signals):
        assert later.version >= earlier.version
        assert all(later.watermark.get(p, -1) >= last for p, last in earlier.watermark.items())
        if later.version == earlier.version:
            assert (later.spent_nanousd, later.watermark) == (earlier.spent_nanousd, earlier.watermark)


@given(histories(), st.integers(0, 15))
@LAW
def test_all_is_told_in_the_end(history: list[Step], restart_before: int) -> None:
    signals, _, _ = listen(history, restart_before)
    spent = sum(final([step.total for step in history]).values())
    assert signals[-1].spent_nanousd == spent


@given(histories())
@LAW
def test_a_change_is_told_within_its_time(history: list[Step]) -> None:
    """Whatever is far from the limit waits, but never longer than COALESCE_FOR."""
    judge, now, untold_since = Judge(), NOON, None
    for total, after in history:
        now += after
        if untold_since is not None and now - untold_since >= COALESCE_FOR:
            assert judge.judge(BOOK, now).signals
            untold_since = None
        judge.apply([total])
        if judge.judge(BOOK, now).signals:
            untold_since = None
        elif untold_since is None:
            untold_since = now


@given(histories(), st.integers(0, 15))
@LAW
def test_every_crossing_is_told_once_and_at_once(history: list[Step], restart_before: int) -> None:
    """However far apart signals are held, a threshold fires with the very total that reaches it."""
    _, alerts, _ = listen(history, restart_before)
    told = [(a.kind, a.signal.spent_nanousd) for a in alerts if a.signal]
    known: dict[int | str, int] = {}
    expected = []
    left: list[tuple[AlertKind, int]] = [(AlertKind.THRESHOLD, int(LIMIT * f)) for f in WARN_AT]
    left.append((AlertKind.EXCEEDED, LIMIT))
    for total, _ in history:
        known[total.source_partition] = total.spent_nanousd
        spent = sum(known.values())
        expected += [(kind, spent) for kind, reached_at in left if spent >= reached_at]
        left = [(kind, reached_at) for kind, reached_at in left if spent < reached_at]
    assert told == expected


@given(histories())
@LAW
def test_a_state_is_what_its_own_figures_say(history: list[Step]) -> None:
    for signal in listen(history, restart_before=-1)[0]:
        exceeded = signal.spent_nanousd >= LIMIT
        warned = signal.spent_nanousd >= LIMIT * WARN_AT[0]
        assert signal.state is (State.EXCEEDED if exceeded else State.WARNING if warned else State.OK)
