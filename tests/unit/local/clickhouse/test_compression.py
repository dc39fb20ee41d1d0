"""Every frame of a body counts, and none may be missing its end."""

import gzip
import sys
import zlib
from collections.abc import Callable

import lz4.frame  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter_local.clickhouse.server import ENCODINGS, BadCompressionError, TooLargeError, decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
}
AT_MOST = 1_000


def test_every_encoding_is_tested() -> None:
    assert set(COMPRESS) == ENCODINGS


@given(st.sampled_from(sorted(COMPRESS)), st.lists(st.binary(max_size=200), max_size=4))
def test_frames_one_after_the_other_are_all_read(encoding: str, parts: list[bytes]) -> None:
    body = b"".join(COMPRESS[encoding](part) for part in parts)
    assert decompress(encoding, body, AT_MOST) == b"".join(parts)


@pytest.mark.parametrize("encoding", sorted(COMPRESS))
def test_a_body_that_ends_inside_a_frame_is_refused(encoding: str) -> None:
    body = COMPRESS[encoding](b"first") + COMPRESS[encoding](b"second" * 100)
    with pytest.raises(BadCompressionError):
        decompress(encoding, body[:-1], AT_MOST)


@pytest.mark.parametrize("encoding", sorted(COMPRESS))
def test_what_is_not_compressed_is_refused(encoding: str) -> None:
    with pytest.raises(BadCompressionError, match=encoding):
        decompress(encoding, b"plain text, and enough of it", AT_MOST)


@pytest.mark.parametrize("encoding", sorted(COMPRESS))
def test_a_body_is_read_up_to_the_bound_and_refused_beyond(encoding: str) -> None:
    full = COMPRESS[encoding](b"a" * (AT_MOST - 1)) + COMPRESS[encoding](b"b")
    assert decompress(encoding, full, AT_MOST) == b"a" * (AT_MOST - 1) + b"b"
    for more in (b"c", b"c" * 10_000_000):
        with pytest.raises(TooLargeError, match=f"{encoding} body holds more than 1,000 bytes"):
            decompress(encoding, full + COMPRESS[encoding](more), AT_MOST)
