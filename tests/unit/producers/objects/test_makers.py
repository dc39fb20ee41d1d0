"""Who made an object: the first who says so. Whether somebody has to read it: until anybody says not."""

from datetime import UTC, datetime

from aiokafka.structs import ConsumerRecord

from spendmeter.contract.provider_object import ObjectKind, ProviderObject
from spendmeter.contract.records import encode_object
from spendmeter.settings import Settings
from spendmeter_gateway.objects.makers import ObjectMakers


def response(*, read_as: str = "resp_1", key: str = "ann") -> ProviderObject:
    return ProviderObject(
        object_id="openai/1",
        kind=ObjectKind.RESPONSE,
        created_at=datetime.now(UTC),
        gateway="g1",
        read_as=read_as,
        key=key,
    )


def makers(known: list[ProviderObject]) -> ObjectMakers:
    return ObjectMakers(Settings(), known.append)


def record(one: ProviderObject) -> ConsumerRecord:
    key, value, headers = encode_object(one)
    return ConsumerRecord("spend.objects", 0, 7, 0, 0, key, value, None, -1, len(value or b""), headers)


def test_the_first_who_says_that_it_is_theirs_is_believed() -> None:
    known: list[ProviderObject] = []
    found = makers(known)
    found.made(response())
    found.apply(record(response(key="bob")))
    found.apply(record(response(key="bob", read_as="")))

    assert [(one.key, one.read_as) for one in known] == [("ann", "resp_1"), ("ann", "")]
    maker = found.maker("openai/1")
    assert maker is not None
    assert maker.key == "ann"


def test_once_it_is_billed_nobody_is_to_read_it_whatever_comes_later() -> None:
    known: list[ProviderObject] = []
    found = makers(known)
    found.apply(record(response()))
    found.billed("openai/1")
    found.billed("openai/1")
    found.billed("openai/2")
    found.apply(record(response()))

    assert [one.read_as for one in known] == ["resp_1", ""]
