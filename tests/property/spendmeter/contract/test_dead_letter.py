"""Law of the dead letter: any record comes back as it was."""

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.dead_letter import DeadLetter, hold
from spendmeter.contract.records import decode, encode_dead_letter
from tests.builders import NOON


@given(st.binary() | st.text().map(str.encode), st.binary() | st.text().map(str.encode))
def test_any_bytes_survive_a_letter_and_kafka(key: bytes, value: bytes) -> None:
    letter = DeadLetter.model_validate(
        {
            "source_topic": "spend.usage",
            "source_partition": 0,
            "source_offset": 0,
            "reason": "invalid",
            "detail": "",
            "component": "stream",
            "failed_at": NOON,
            **hold(key, value),
        }
    )
    record = encode_dead_letter(letter)

    assert decode(DeadLetter, record.value, record.headers).record_bytes() == (key, value)
