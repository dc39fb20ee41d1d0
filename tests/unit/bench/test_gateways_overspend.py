"""The formula for several gateways, on rounds small enough to be counted by hand."""

import math

from bench.gateways.overspend import Call, Round

COST, MOST, ACK_WAIT = 10, 12, 0.3


def a_round(limit: int, gateways: int, *calls: Call) -> Round:
    """Each event is told to every gateway a tenth of a second after it was recorded."""
    played = Round("k", limit, gateways, calls=list(calls))
    for offset, call in enumerate(played.recorded):
        played.offsets[call.gateway, call.seq] = offset
        played.acknowledged_at[call.gateway, call.seq] = call.recorded_at + 0.2
        for gateway in range(gateways):
            played.told[gateway].append((call.recorded_at + 0.1, offset))
    return played


def test_the_limit_is_reached_with_the_call_that_fills_it() -> None:
    calls = [Call(0, 0.0, 1.0, COST, 1), Call(0, 0.5, 2.0, COST, 2), Call(0, 1.9, 3.0, COST, 3)]

    assert a_round(20, 1, *calls).reached_at() == 2.0
    assert a_round(30, 1, *calls).reached_at() == 3.0
    assert a_round(31, 1, *calls).reached_at() is None
    assert [a_round(limit, 1, *calls).overspend_nanousd() for limit in (20, 30, 31)] == [10, 0, 0]


def test_what_is_in_flight_when_the_limit_is_reached_may_be_spent() -> None:
    played = a_round(
        20, 1, Call(0, 0.0, 1.0, COST, 1), Call(0, 0.5, 2.0, COST, 2), Call(0, 1.9, 3.0, COST, 3)
    )

    assert played.in_flight() == 1
    assert played.bound_nanousd("settled", MOST, ACK_WAIT) >= played.overspend_nanousd() == COST


def test_with_several_gateways_the_latency_admits_more() -> None:
    calls = [Call(number % 2, number * 0.1, number * 0.1 + 0.05, COST, number + 1) for number in range(20)]
    played = a_round(100, 2, *calls)

    assert math.isclose(played.latency_seconds(), 0.1)
    # About five calls a second at each, for a tenth of a second, and none in flight.
    assert played.bound_nanousd("settled", MOST, ACK_WAIT) == (0 + 1 + 1) * MOST


def test_what_was_never_heard_bounds_nothing() -> None:
    played = a_round(10, 2, Call(0, 0.0, 1.0, COST, 1))
    played.told[1].clear()

    assert played.bound_nanousd("settled", MOST, ACK_WAIT) == math.inf


def test_an_acknowledgement_that_comes_after_the_wait_admits_more() -> None:
    played = a_round(10, 1, Call(0, 0.0, 1.0, COST, 1), Call(0, 0.5, 2.0, COST, 2))

    assert played.latency_seconds(0.3) == 0
    assert math.isclose(played.latency_seconds(0.15), 0.05)
    assert played.bound_nanousd("settled", MOST, 0.15) == (1 + 1) * MOST


def test_one_strict_gateway_may_spend_nothing_more() -> None:
    played = a_round(10, 1, Call(0, 0.0, 1.0, COST, 1), Call(0, 0.0, 2.0, COST, 2))

    assert played.bound_nanousd("strict", MOST, ACK_WAIT) == 0


def test_a_refusal_before_the_limit_was_reached_is_a_false_one() -> None:
    played = a_round(10, 1, Call(0, 0.0, 1.0, COST, 1))
    played.refused_at = [0.9, 1.0]

    assert played.false_refusals() == 1
