"""uuid7: RFC 9562's layout, and an order that follows the clock."""

from uuid import RFC_4122, UUID

import pytest

from spendmeter.values.ids import derived_uuid7, unix_ms_of, uuid7


@pytest.mark.parametrize("unix_ms", [0, 1, 1_795_348_800_000, 2**48 - 1])
def test_an_id_has_the_layout_of_rfc_9562(unix_ms: int) -> None:
    made = uuid7(unix_ms)

    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == unix_ms


def test_ids_of_one_millisecond_differ() -> None:
    assert len({uuid7(1_795_348_800_000) for _ in range(1_000)}) == 1_000


def test_every_random_bit_is_used() -> None:
    ids = [uuid7(0).int for _ in range(200)]
    ever, always = 0, (1 << 128) - 1
    for made in ids:
        ever |= made
        always &= made

    assert ever == (0x7FFF << 64) | ((1 << 64) - 1) & ~(0b01 << 62)
    assert always == (0x7 << 76) | (0b10 << 62)


@pytest.mark.parametrize("unix_ms", [0, 1_795_348_800_000, 2**47])
def test_a_later_millisecond_sorts_later_as_number_and_as_text(unix_ms: int) -> None:
    for _ in range(100):
        earlier, later = uuid7(unix_ms), uuid7(unix_ms + 1)

        assert earlier < later
        assert str(earlier) < str(later)


@pytest.mark.parametrize(
    ("unix_ms", "seed", "expected"),
    [
        (0, ("object", "openai/resp_1"), "00000000-0000-73fa-8657-165666ca909c"),
        (1_793_491_200_000, ("import/litellm/x/h1", "3"), "01a19467-e800-7bb3-9792-f40f62150881"),
        (
            0x019ABCDEF012,
            ("correction", "019abcdef012734589abcdef01234567", "2"),
            "019abcde-f012-7780-9211-a03f2c9b0654",
        ),
        (
            0x019ABCDEF012,
            ("019abcdef012734589abcdef01234567", "success", "chatcmpl-1", "c\ud800"),
            "019abcde-f012-7ce7-bd6b-128245e9728c",
        ),
    ],
)
def test_a_derived_id_is_the_one_that_history_has(unix_ms: int, seed: tuple[str, ...], expected: str) -> None:
    made = derived_uuid7(unix_ms, *seed)

    assert made == UUID(expected)
    assert (made.version, made.variant, unix_ms_of(made)) == (7, RFC_4122, unix_ms)
