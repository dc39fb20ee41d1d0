"""What a changelog may hold: every entry that the stream writes, and nothing else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter_stream.state import (
    ACCOUNT,
    JUDGE_TABLE,
    METER_TABLE,
    OPENING,
    OPENING_BALANCE,
    POSITION,
    PRODUCER,
    TALLY,
    AccountState,
    AccountWindow,
    Burn,
    CounterKey,
    CountingStart,
    NoEntry,
    PartitionSum,
    ProducerSequence,
    TotalComponent,
    check_entry,
)
from tests.builders import NOON

WHERE = AccountWindow("per-key|key=k1", NOON)
STATE = AccountState(
    {0: TotalComponent(5, NanoUsd(7), 1, 0, "s"), "history": TotalComponent(5, NanoUsd(7), 1, 0, "s")},
    UUID(int=1),
    frozenset({"threshold/0.8"}),
    True,
    2,
    Burn(1, 2, 0.5),
    held=OpeningBalance({0: 5}, "s", NOON, 3),
)
ENTRIES = {
    "tally": (
        TALLY + CounterKey(*WHERE, "s").suffix(),
        PartitionSum(NanoUsd(1), 1, 0, 5, UUID(int=1), NOON).value(),
    ),
    "lifetime": (
        TALLY + CounterKey(*WHERE, "s").suffix(),
        PartitionSum(NanoUsd(1), 1, 0, 5, None, None).value(),
    ),
    "producer": (PRODUCER + "gatewäy|1".encode(), ProducerSequence(3, 5, NOON).value()),
    "opening": (OPENING + b"per-key|s", CountingStart(5).value()),
    "position": (POSITION, b"[5,1767225600000000,4]"),
    "old position": (POSITION, b"[5,1767225600000000]"),
    "account": (ACCOUNT + WHERE.suffix(), STATE.value()),
    "new account": (ACCOUNT + WHERE.suffix(), AccountState().value()),
    "account of an old version": (ACCOUNT + WHERE.suffix(), b'[6,{"0":[5,7,1,0]},null,[],false]'),
    "taken": (OPENING_BALANCE + b"per-key", b'[5,[[{"0":5},"s",1767225600000000,1]]]'),
    "tombstone": (b"whatever", None),
}


def table_of(key: bytes) -> str:
    return JUDGE_TABLE if key.startswith((ACCOUNT, OPENING_BALANCE)) else METER_TABLE


@pytest.mark.parametrize("name", [name for name, (_, value) in ENTRIES.items() if value is not None])
def test_an_entry_of_the_other_table_is_none(name: str) -> None:
    key, value = ENTRIES[name]
    other = {METER_TABLE: JUDGE_TABLE, JUDGE_TABLE: METER_TABLE}[table_of(key)]
    with pytest.raises(NoEntry, match=f"its key belongs to no entry of the {other}"):
        check_entry(other, key, value)


@pytest.mark.parametrize("name", ENTRIES)
def test_what_the_stream_writes_is_an_entry(name: str) -> None:
    check_entry(table_of(ENTRIES[name][0]), *ENTRIES[name])


@pytest.mark.parametrize("name", [name for name, (_, value) in ENTRIES.items() if value is not None])
@given(at=st.integers(0, 10_000), byte=st.binary(min_size=1, max_size=1))
def test_no_other_value_raises_anything_else(name: str, at: int, byte: bytes) -> None:
    key, value = ENTRIES[name]
    assert value is not None
    at %= len(value)
    try:
        check_entry(table_of(key), key, value[:at] + byte + value[at + 1 :])
        check_entry(table_of(key), key[:at] + byte + key[at + 1 :], value)
    except NoEntry:
        return


@given(st.none() | st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_are_no_entry(key: bytes | None, value: bytes) -> None:
    with pytest.raises(NoEntry):
        check_entry(table_of(key or b""), key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (TALLY + b"x", ENTRIES["tally"][1]),
        (TALLY + b"a|99999999999999999999999|s", ENTRIES["tally"][1]),
        (POSITION, b'["5",1767225600000000]'),
        (POSITION, b"[5,99999999999999999999999]"),
        (ACCOUNT + WHERE.suffix(), b"[5,{}]"),
        (ACCOUNT + WHERE.suffix(), b'[5,{"x":[5]},null,[],false]'),
        (PRODUCER + b"\xff", ENTRIES["producer"][1]),
        (PRODUCER + b"p", b"[1,2]"),
        (OPENING + b"b|s", b"[1]"),
        (OPENING_BALANCE + b"b", b"[1,[[1]]]"),
        (OPENING + b"b|s", b"[" + b"9" * 5_000 + b"]"),
    ],
)
def test_what_would_stop_a_worker_is_no_entry(key: bytes, value: bytes) -> None:
    with pytest.raises(NoEntry):
        check_entry(table_of(key or b""), key, value)
