"""The values of the changelogs: asserted literally, since a change of them needs a new changelog."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter_stream.state import (
    AccountState,
    AccountWindow,
    Burn,
    CounterKey,
    CountingStart,
    PartitionSum,
    ProducerSequence,
    TotalComponent,
    guard_of,
)
from tests.builders import NOON

NOON_US = 1_795_348_800_000_000
ID = UUID("01935000-0000-7000-8000-000000000001")

VALUES = [
    (
        PartitionSum(NanoUsd(12), 2, 3, 9, ID, NOON),
        f'[9,12,2,3,"{ID}",{NOON_US}]'.encode(),
        9,
    ),
    (PartitionSum(NanoUsd(-1), 0, 3, 3, None, None), b"[3,-1,0,3,null,null]", 3),
    (ProducerSequence(7, 9, NOON), f"[9,7,{NOON_US}]".encode(), 9),
    (CountingStart(9), b"[-9]", -9),
    (
        AccountState(
            {
                0: TotalComponent(9, NanoUsd(12), 2, 3, "5d41402a"),
                "history": TotalComponent(2, NanoUsd(5), 1, 0),
            },
            ID,
            frozenset({"threshold/0.8", "exceeded/1"}),
            True,
            2,
            Burn(NOON_US, NOON_US + 1, 0.1),
            held=OpeningBalance({0: 2}, "5d41402a", NOON, 7),
        ),
        (
            f'[13,{{"0":[9,12,2,3,"5d41402a"],"history":[2,5,1,0,""]}},"{ID}",["exceeded/1","threshold/0.8"],true,'
            f'2,[{NOON_US},{NOON_US + 1},0.1],[{{"0":2}},"5d41402a",{NOON_US},7]]'
        ).encode(),
        13,
    ),
    (AccountState(), b"[0,{},null,[],false,0,null,null]", 0),
]


@pytest.mark.parametrize(("value", "written", "guard"), VALUES)
def test_a_value_is_written_and_read_back_and_its_guard_found(
    value: PartitionSum | ProducerSequence | CountingStart | AccountState, written: bytes, guard: int
) -> None:
    assert value.value() == written
    assert type(value).read(written) == value
    assert guard_of(written) == guard


def test_an_account_written_before_there_were_forecasts_is_read() -> None:
    assert AccountState.read(b"[0,{},null,[],true]") == AccountState(exceeded=True, crossed=1)


def test_an_account_written_before_there_were_opening_balances_is_read() -> None:
    assert AccountState.read(b"[0,{},null,[],true,3,null]") == AccountState(exceeded=True, crossed=3)


def test_the_guard_of_a_position_is_its_offset() -> None:
    assert guard_of(b"[41,1795348800000000]") == 41


def test_of_two_openings_the_earlier_has_the_higher_guard() -> None:
    assert guard_of(CountingStart(3).value()) > guard_of(CountingStart(4).value())


@pytest.mark.parametrize("account", ["b|", "b|key=k1", "b|key=a%7Cb&team=%C3%A9"])
@pytest.mark.parametrize("start", [NOON, NOON + timedelta(microseconds=1)])
def test_an_account_window_is_read_back(account: str, start: datetime) -> None:
    where = AccountWindow(account, start)
    assert AccountWindow.read(where.suffix()) == where
    counted = CounterKey(account, start, "5a0c")
    assert CounterKey.read(counted.suffix()) == counted
