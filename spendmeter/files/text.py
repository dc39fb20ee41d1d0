"""Reads files that people write, as UTF-8; or says in one sentence what is wrong and how to correct it."""

import os
from pathlib import Path
from typing import IO, Any

MAX_FILE_BYTES = 16 * 1024 * 1024
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_INSPECTED_BYTES = 4096


class UnreadableFile(ValueError):
    """The file is not readable text; the message names it and says how to correct it."""


def read_text_file(path: Path) -> str:
    """The text of a file.

    Raises:
        UnreadableFile: it cannot be opened, is larger than MAX_FILE_BYTES, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            return read_text(file, str(path))
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(file: IO[Any], name: str) -> str:
    """Like `read_text_file`, for an open binary file. `name` is the file's name in messages."""
    raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise UnreadableFile(
            f"{name} is larger than {MAX_FILE_BYTES:,} bytes; split it, or name another file"
        )
    return text_of(raw, name)


def text_of(raw: bytes, name: str) -> str:
    """Bytes as text. Raises UnreadableFile."""
    encoding = next((found for mark, found in _BYTE_ORDER_MARKS if raw.startswith(mark)), None)
    if encoding is None and b"\0" in raw:
        encoding = _without_mark(raw[:_INSPECTED_BYTES])
        if encoding is None:
            raise UnreadableFile(f"{name} is a binary file, not text; name another file")
    if encoding is not None:
        raise UnreadableFile(f"{name} is {encoding}; {_mended(encoding, name)}")
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = raw[error.start]
        raise UnreadableFile(
            f"{name}:{line}: byte 0x{byte:02x} is not UTF-8 (in Latin-1 it is {chr(byte)!r});"
            f" {_mended('LATIN1', name)}"
        ) from None


def _without_mark(raw: bytes) -> str | None:
    """UTF-16 without a mark: half of its bytes, all even or all odd ones, are mostly zero."""
    halves = (raw[::2].count(0), raw[1::2].count(0))
    return "UTF-16" if max(halves) * 4 > len(raw) and min(halves) * 20 < len(raw) else None


def _mended(encoding: str, name: str) -> str:
    return f"save it as UTF-8, such as with: iconv -f {encoding} -t UTF-8 {name if name != '-' else 'FILE'}"


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `path` so that a reader sees the old text or the new one, never a part of either.

    `mode` applies from the first byte, so others can never read a secret.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
