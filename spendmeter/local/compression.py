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


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, /) -> bytes: ...


_FRAMES: dict[str, Callable[[], _Frame]] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
ENCODINGS = frozenset(_FRAMES)


def decompress(encoding: str, body: bytes) -> bytes:
    """All of `body`, in one of `ENCODINGS`. Raises BadCompressionError."""
    parts: list[bytes] = []
    rest: bytes | None = body
    while rest:
        frame = _FRAMES[encoding]()
        try:
            parts.append(frame.decompress(rest))
        except (zlib.error, zstd.ZstdError, RuntimeError) as error:
            raise BadCompressionError(f"not {encoding}: {error}") from error
        if not frame.eof:
            raise BadCompressionError(f"the {encoding} body ends inside a frame")
        rest = frame.unused_data
    return b"".join(parts)
