"""Signatures prove that the owner of a key wrote a record, and to which partition. Pure.

HMAC-SHA256 (RFC 2104), cut to 128 bits, over the topic, the partition, the key and the value; for a tombstone
over some headers instead of the value. So no part of a signed record can be changed, and a copy of it
in another partition or system has no valid signature.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

SIGNATURE = "ce_signature"
MIN_KEY_CHARACTERS = 32
SIGNATURE_BYTES = 31
"""The length of the header's text: the id of the key, a colon, the signature in base64."""
_ID_DIGITS = 8
_MAC_BYTES = 16
# The headers with who and when, for a record without a value.
_OF_TOMBSTONES = ("ce_updatedby", "ce_time")

Headers = Sequence[tuple[str, bytes | None]]


class Signable(Protocol):
    """The signed parts of a record in Kafka."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Headers: ...


class Placed(NamedTuple):
    """A record and its destination."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class SigningKeys:
    """Keys shared by writers and checkers: the first one signs, all are accepted.

    They are never shown: neither `repr` nor an error contains one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Each has at least MIN_KEY_CHARACTERS. Without keys nothing is signed, and no signature is
        accepted.
        """
        self._macs: dict[bytes, Any] = {}
        self._signs_with = b""
        for secret in secrets:
            mac = hmac.new(secret.encode(), digestmod="sha256")
            named = mac.copy()
            named.update(b"id")
            key_id = named.hexdigest()[:_ID_DIGITS].encode()
            self._signs_with = self._signs_with or key_id
            self._macs[key_id] = mac

    def __bool__(self) -> bool:
        return bool(self._macs)

    def sign(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> list[tuple[str, bytes]]:
        """The header that signs a record for that destination; none without a key."""
        if not self._macs:
            return []
        said = _said(Placed(topic, partition, key, value, headers))
        return [(SIGNATURE, self._signs_with + b":" + self._mac(self._signs_with, said))]

    def signer_of(self, record: Signable) -> str:
        """The id of the key that signed a record; empty if it has no valid signature."""
        if not self._macs:
            return ""
        # Only the first: a record may have thousands, and checking each one reads the whole record.
        signature = next((text for name, text in record.headers if name == SIGNATURE), None)
        key_id, _, mac = (signature or b"").partition(b":")
        if key_id in self._macs and hmac.compare_digest(self._mac(key_id, _said(record)), mac):
            return key_id.decode()
        return ""

    def _mac(self, key_id: bytes, said: bytes) -> bytes:
        mac = self._macs[key_id].copy()
        mac.update(said)
        return urlsafe_b64encode(mac.digest()[:_MAC_BYTES]).rstrip(b"=")


NO_KEYS = SigningKeys()


def _said(record: Signable) -> bytes:
    key, value = record.key or b"", record.value
    if value is None:
        value, kind = _said_by_headers(record.headers), "tombstone"
    else:
        kind = "value"
    return f"{record.topic}\n{record.partition}\n{kind}\n{len(key)}\n".encode() + key + value


def _said_by_headers(headers: Headers) -> bytes:
    texts = dict(headers)
    return b"\n".join(texts.get(name) or b"" for name in _OF_TOMBSTONES)


def shown(name: str, *, is_signed: bool) -> str:
    """A record's name for its writer, in the form for people: anybody may write any name."""
    return name if is_signed or not name else f"claimed: {name}"
