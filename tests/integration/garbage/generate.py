"""Garbage: records of any bytes, and of the right shape with the wrong values, for each topic. Pure.

What has the right shape is about budgets, accounts, keys and producers that no test uses: it may count for
itself, and never changes what others have spent. Everything follows from a seed.
"""

import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib.resources import files
from typing import Any, NamedTuple

from spendmeter.contract.topics import COMPACTED, Topic
from tests.raw_records import GZIP, LZ4, NO_COMPRESSION, SNAPPY, ZSTD, Raw

CODECS = (NO_COMPRESSION, GZIP, SNAPPY, LZ4, ZSTD)
CHANGELOGS = ("spend-stream-meter-changelog", "spend-stream-judge-changelog")
TOPICS: tuple[str, ...] = (*(topic.value for topic in Topic), *CHANGELOGS)
_COMPACTED = {*(topic.value for topic in COMPACTED), *CHANGELOGS}

NOBODY = "nobody"
"""Begins the name of whatever garbage of the right shape is about."""
MEBIBYTE = 1024 * 1024
# With what goes around it still within Kafka's own max.message.bytes.
LARGEST_BYTES = MEBIBYTE - 2_000
MANY_HEADERS = 3_000
FAR_FUTURE_MS = 253_402_300_800_000
_EXAMPLES = {
    json.loads(file.read_text())["topic"]: json.loads(file.read_text())
    for file in files("spendmeter.contract.examples").iterdir()
    if file.name.endswith(".json")
}
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1.5, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**18, 10**40, 1e308),
    *("", "\0", "\x1b[2J", "|", "a|b|c", "é", "\U0001f600" * 600, "x" * 513, "x" * 70_000, "history", "0"),
    *("1970-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "[/x]"),
    *([], {}, [[]], [None], {"": ""}, {"0": 2**63 - 1}, {"-1": -1}, {"x": 1}, ["x"] * 1_000),
)


class Batch(NamedTuple):
    """Records to be stored together."""

    topic: str
    records: Sequence[Raw]
    codec: int
    transaction: bool | None = None
    """Written in one, then committed (True) or aborted (False): a plain client's, so with plain headers."""


def garbage(seed: int, batches: int) -> Iterator[Batch]:
    """So many batches, over all topics in turn."""
    chance = random.Random(seed)
    for number in range(batches):
        topic = TOPICS[number % len(TOPICS)]
        in_transaction = chance.random() < 0.1
        records = [_record(chance, topic) for _ in range(chance.choice((1, 1, 2, 5)))]
        records = _within(records, LARGEST_BYTES)
        if in_transaction:
            plain = [record._replace(headers=[], timestamp_ms=None) for record in records]
            yield Batch(topic, plain, NO_COMPRESSION, chance.random() < 0.5)
        else:
            yield Batch(topic, records, chance.choice(CODECS))
    # Far more than the broker's limit, once it is unpacked.
    for topic in TOPICS:
        yield Batch(topic, [Raw(b"0" * 8 * MEBIBYTE, b"large")], ZSTD)


def _record(chance: random.Random, topic: str) -> Raw:
    shape = chance.random()
    if shape < 0.35:
        key, value = _bytes(chance), _bytes(chance)
    elif topic in CHANGELOGS:
        key, value = _entry(chance)
    else:
        key, value = _changed_example(chance, topic)
    if topic in _COMPACTED and key is None:
        key = b""
    if value is None and key is None:
        value = b""
    return Raw(value, key, _headers(chance), chance.choice((None, None, 0, 1, -1, FAR_FUTURE_MS, -(10**12))))


def _bytes(chance: random.Random) -> bytes | None:
    size = chance.choice((0, 1, 7, 300, 5_000))
    if chance.random() < 0.02:
        size = LARGEST_BYTES
    return chance.choice(
        (
            None,
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"a":' * 500,
            b"\xff\xfe",
            chance.randbytes(size),
            b"\0" * size,
            b'"' * size,
            ("é" * (size // 2)).encode("utf-16"),
        )
    )


def _changed_example(chance: random.Random, topic: str) -> tuple[bytes | None, bytes | None]:
    """An example of the contract with odd values in some fields, about nobody."""
    example = json.loads(json.dumps(_EXAMPLES[topic]))
    value = example["value"]
    for _ in range(chance.choice((0, 1, 1, 2))):
        field = chance.choice([*value, "no such field"])
        value[field] = deepcopy(chance.choice(_ODD_VALUES))
    name = f"{NOBODY}-{chance.randrange(10)}"
    for field in ("id", "budget_id", "key", "producer_id", "gateway"):
        if isinstance(value.get(field), str):
            value[field] = name if value[field] else ""
    if "match" in value:
        value["match"] = {"key": name}
    if "account" in value:
        value["account"] = f"{name}|key={chance.choice((name, '', 'é', 'x' * 300))}"
    if isinstance(value.get("signal"), dict):
        value["signal"] |= {"budget_id": name, "account": f"{name}|key=x"}
    if topic == Topic.DEAD_LETTERS:
        value["source_topic"] = name
    key = chance.choice((name, value.get("account") or name, example["key"].replace("member", NOBODY)))
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        at = chance.randrange(len(text))
        text = text[:at] + chance.randbytes(1) + text[at + 1 :]
    return str(key).encode(), chance.choice((text, text, text, None))


def _entry(chance: random.Random) -> tuple[bytes | None, bytes | None]:
    """What nearly is an entry of the stream's changelogs."""
    prefix = chance.choice((b"t|", b"p|", b"o|", b"a|", b"h|", b"position", b"x|", b""))
    key = prefix + chance.choice((b"", b"nobody|key=x|0|s", b"nobody|x|y", b"\xff", b"nobody|1" + b"0" * 30))
    if key == b"position":
        # Of all entries the one whose key is not about somebody.
        return key, chance.choice((b"[", b"{}", b'["x",1]', b"[1]", b"[1e400,1]", b"null"))
    return key, chance.choice(
        (b"[", b"[]", b"[0]", b"[-1]", b"[1,2,3]", b'[1,{"0":[]}]', b"[" + b"9" * 5_000 + b"]", b"0", b"{}")
    )


def _headers(chance: random.Random) -> list[tuple[bytes, bytes | None]]:
    names = (b"ce_type", b"content-type", b"\xff\xfe", b"", b"\0", "é".encode(), b"n" * 1_000)
    values = (None, b"", b"\xff", b"dev.spendmeter.usage.v1", b"dev.spendmeter.usage.v9", b"v" * 3_000)
    count = chance.choice((0, 0, 0, 1, 3, MANY_HEADERS if chance.random() < 0.1 else 2))
    if count == MANY_HEADERS:
        return [(chance.choice(names[:6]), chance.choice(values[:5])) for _ in range(count)]
    return [(chance.choice(names), chance.choice(values)) for _ in range(count)]


def _within(records: list[Raw], size: int) -> list[Raw]:
    """As many of them as are within that size, and at least one that is."""
    kept: list[Raw] = []
    for record in records:
        size -= len(record.key or b"") + len(record.value or b"") + 30
        size -= sum(len(name) + len(value or b"") + 10 for name, value in record.headers)
        if size < 0:
            break
        kept.append(record)
    return kept or [Raw(b"x", b"k")]
