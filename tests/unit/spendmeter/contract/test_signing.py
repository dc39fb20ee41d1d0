"""Signatures: what they hold together, and which keys are believed."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from spendmeter.contract.signing import (
    NO_KEYS,
    SIGNATURE,
    SIGNATURE_BYTES,
    Headers,
    SigningKeys,
    shown,
)

OLD, NEW = "o" * 32, "n" * 32


@dataclass(frozen=True)
class Stored:
    topic: str = "spend.usage"
    partition: int = 2
    key: bytes | None = b"k1"
    value: bytes | None = b'{"seq": 1}'
    headers: Headers = field(default_factory=list)


def signed(keys: SigningKeys, record: Stored) -> Stored:
    signature = keys.sign(record.topic, record.partition, record.key, record.value, record.headers)
    return replace(record, headers=[*record.headers, *signature])


def test_a_record_is_known_to_be_of_who_holds_the_key() -> None:
    keys = SigningKeys([NEW])
    record = signed(keys, Stored(headers=[("ce_id", b"1")]))

    [(name, text)] = [header for header in record.headers if header[0] == SIGNATURE]
    assert (name, len(text or b"")) == (SIGNATURE, SIGNATURE_BYTES)
    assert keys.signer_of(record) == (text or b"").decode().partition(":")[0] != ""


@pytest.mark.parametrize(
    "changed",
    [
        {"value": b'{"seq": 9}'},
        {"key": b"k2"},
        {"partition": 3},
        {"topic": "other.spend.usage"},
        {"value": None},
        # What moves from one part to the next makes another record.
        {"key": b"k1{", "value": b'"seq": 1}'},
    ],
    ids=str,
)
def test_no_part_of_a_signed_record_can_be_changed_and_no_copy_elsewhere_is_signed(
    changed: dict[str, Any],
) -> None:
    keys = SigningKeys([NEW])

    assert keys.signer_of(replace(signed(keys, Stored()), **changed)) == ""


def test_of_a_tombstone_what_its_headers_say_is_signed() -> None:
    keys = SigningKeys([NEW])
    removed = signed(keys, Stored(value=None, headers=[("ce_updatedby", b"ann"), ("ce_time", b"t")]))
    by_another = [("ce_updatedby", b"bob"), *removed.headers[1:]]

    assert keys.signer_of(removed)
    assert keys.signer_of(replace(removed, headers=by_another)) == ""


def test_keys_are_changed_without_a_gap() -> None:
    before, both, after = SigningKeys([OLD]), SigningKeys([NEW, OLD]), SigningKeys([NEW])
    by_old, by_new = signed(before, Stored()), signed(both, Stored())

    assert both.signer_of(by_old) == before.signer_of(by_old) != ""
    assert both.signer_of(by_new) == after.signer_of(by_new) != ""
    assert (before.signer_of(by_new), after.signer_of(by_old)) == ("", "")


@pytest.mark.parametrize(
    "text", [None, b"", b":", b"00000000:", b"\xff\xfe", b"%s", b"%s:", b"%s:AAAAAAAAAAAAAAAAAAAAAA"]
)
def test_what_is_no_signature_is_none(text: bytes | None) -> None:
    keys = SigningKeys([NEW])
    key_id = keys.sign("t", 0, b"", b"")[0][1].partition(b":")[0]
    said = None if text is None else text.replace(b"%s", key_id)

    assert keys.signer_of(Stored(headers=[(SIGNATURE, said)])) == ""


def test_without_a_key_nothing_is_signed_and_nothing_is_believed() -> None:
    record = signed(SigningKeys([NEW]), Stored())

    assert (NO_KEYS.sign("t", 0, b"", b""), NO_KEYS.signer_of(record), bool(NO_KEYS)) == ([], "", False)


def test_a_key_is_never_shown() -> None:
    keys = SigningKeys([NEW])
    sent = repr(keys.sign("t", 0, b"", b""))

    assert not any(NEW in text for text in (repr(keys), str(keys), repr(vars(keys)), sent))


def test_an_author_whom_nobody_vouches_for_is_shown_as_claimed() -> None:
    assert shown("ann", is_signed=True) == "ann"
    assert shown("ann", is_signed=False) == "claimed: ann"
    assert shown("", is_signed=False) == ""


def test_of_many_signatures_the_first_alone_is_looked_at() -> None:
    keys = SigningKeys([NEW])
    [(_, good)] = keys.sign("spend.usage", 2, b"k1", b'{"seq": 1}')

    assert keys.signer_of(Stored(headers=[(SIGNATURE, good), (SIGNATURE, b"bad")]))
    assert not keys.signer_of(Stored(headers=[(SIGNATURE, b"bad"), (SIGNATURE, good)]))


def test_the_signature_is_what_the_contract_says() -> None:
    said = b"spend.usage\n2\nvalue\n2\nk1" + b'{"seq": 1}'
    key_id = hmac.new(NEW.encode(), b"id", "sha256").hexdigest()[:8].encode()
    signature = urlsafe_b64encode(hmac.new(NEW.encode(), said, "sha256").digest()[:16]).rstrip(b"=")

    [(_, text)] = SigningKeys([NEW]).sign("spend.usage", 2, b"k1", b'{"seq": 1}')
    assert text == key_id + b":" + signature

    removed = b"spend.budgets\n0\ntombstone\n1\nb" + b"ann\n2026-11-22T12:00:00.000000Z"
    headers = [("ce_updatedby", b"ann"), ("ce_time", b"2026-11-22T12:00:00.000000Z")]
    [(_, text)] = SigningKeys([NEW]).sign("spend.budgets", 0, b"b", None, headers)
    assert text.endswith(
        urlsafe_b64encode(hmac.new(NEW.encode(), removed, "sha256").digest()[:16]).rstrip(b"=")
    )
