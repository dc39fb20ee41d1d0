"""Request bodies as clients compress them: any number of frames, one after the other.

clickhouse-connect compresses each block of an insert as a frame of its own. A decoder that stops after the
first frame loses the rest without a word: of 100,000 rows 65,536 were kept, and the insert was answered 200.
"""

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class BadCompressionError(ValueError):
    """The body is not what its Content-Encoding says, or ends inside a frame."""


class TooLargeError(ValueError):
    """The body would be larger than allowed."""


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_FRAMES: dict[str, Callable[[], _Frame]] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
ENCODINGS = frozenset(_FRAMES)


def decompress(encoding: str, body: bytes, at_most: int) -> bytes:
    """All of `body`, in one of `ENCODINGS`, of at most that many bytes.

    Raises BadCompressionError, TooLargeError.
    """
    parts: list[bytes] = []
    left = at_most
    rest: bytes | None = body
    while rest:
        frame = _FRAMES[encoding]()
        try:
            # One byte more than allowed shows that there are more.
            part = frame.decompress(rest, left + 1)
        except (zlib.error, zstd.ZstdError, RuntimeError) as error:
            raise BadCompressionError(f"not {encoding}: {error}") from error
        left -= len(part)
        if left < 0:
            raise TooLargeError(f"the {encoding} body holds more than {at_most:,} bytes")
        if not frame.eof:
            raise BadCompressionError(f"the {encoding} body ends inside a frame")
        parts.append(part)
        rest = frame.unused_data
    return b"".join(parts)
