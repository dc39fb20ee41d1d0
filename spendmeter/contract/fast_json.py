"""Fast JSON for records that come in thousands: usage events, totals, signals.

Reading uses a msgspec struct made from the model's fields, and the model decides in doubt. The model would
read everything that is read here, to equal values. The reverse does not hold: records of other versions, or
unusual ones, are left to the model. So there is one definition, and both readers drop the same records.
Writing produces byte for byte what pydantic writes.
"""

import builtins
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from enum import StrEnum
from types import GenericAlias, MappingProxyType
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from annotated_types import Ge, Le, Lt, MaxLen, MinLen
from pydantic import Strict
from pydantic.fields import FieldInfo

from spendmeter.contract.signal import Signal
from spendmeter.contract.total import Total
from spendmeter.contract.usage import UsageEvent, check_signs_and_references
from spendmeter.contract.wire import Wire, construct_unchecked
from spendmeter.values.times import UtcTime, parse_time, remembered_parse, remembered_time

UsageFields: TypeAlias = msgspec.Struct
"""The attributes of a `UsageEvent`, without being one."""

# Types that msgspec and pydantic read in the same way, or msgspec more strictly. Test any other type first.
_READ_ALIKE = (str, int, bool, UUID, str | None, UUID | None)


def struct_of(model: type[Wire], only: Mapping[str, Any] = MappingProxyType({})) -> type[msgspec.Struct]:
    """A struct with the model's fields, bounds and defaults; times are text in it.

    `only` restricts a field to one of the types that the model accepts. The struct refuses
    fields that the model does not have: msgspec would skip them unchecked, and they may
    make a record unreadable.

    Raises:
        TypeError: a field has a type or a bound that is not known to be read in the same way.
    """
    hints = get_type_hints(model, include_extras=True)
    fields = [
        (
            name,
            only[name] if name in only else str if hints[name] == UtcTime else _type_of(name, field),
            *_default_of(field),
        )
        for name, field in model.model_fields.items()
    ]
    # Not tracked by the collector: a struct holds text and numbers, never a cycle.
    return msgspec.defstruct(
        f"{model.__name__}Fields", fields, kw_only=True, forbid_unknown_fields=True, gc=False
    )


def _type_of(name: str, field: FieldInfo) -> Any:
    return _bounded(name, field.annotation, field.metadata)


def _bounded(name: str, annotation: Any, metadata: Iterable[Any]) -> Any:
    """The type for msgspec, with pydantic's bounds, those of its items included."""
    kind: Any = getattr(annotation, "__supertype__", annotation)
    is_name = isinstance(kind, type) and issubclass(kind, StrEnum)
    match get_origin(kind), get_args(kind):
        case builtins.tuple, (item, builtins.Ellipsis):
            kind = GenericAlias(tuple, (_item(name, item), ...))
        case builtins.dict, (key, item):
            kind = GenericAlias(dict, (_item(name, key), _item(name, item)))
        case _ if not is_name and kind not in _READ_ALIKE:
            raise TypeError(f"{name}: {kind} is not known to be read alike by msgspec")
    bounds: dict[str, Any] = {}
    for said in metadata:
        match said:
            case Ge(ge=int(least)):
                bounds["ge"] = least
            case Le(le=int(most)):
                bounds["le"] = most
            case Lt(lt=int(end)):
                bounds["le"] = end - 1
            case MinLen(min_length=length):
                bounds["min_length"] = length
            case MaxLen(max_length=length):
                bounds["max_length"] = length
            case Strict():
                pass  # msgspec is never anything else
            case _:
                raise TypeError(f"{name}: {said} is not known to be read alike by msgspec")
    if not bounds:
        return kind
    # For an optional field the bound goes on the text, because msgspec accepts none on a union.
    if kind == str | None:
        return Annotated[str, msgspec.Meta(**bounds)] | None
    return Annotated[kind, msgspec.Meta(**bounds)]


def _item(name: str, item: Any) -> Any:
    if get_origin(item) is not Annotated:
        return _bounded(name, item, ())
    annotation, *said = get_args(item)
    return _bounded(name, annotation, [one for field in said for one in field.metadata])


def _default_of(field: FieldInfo) -> tuple[Any, ...]:
    if field.is_required():
        return ()
    factory: Any = field.default_factory
    return (field.default if factory is None else msgspec.field(default_factory=factory),)


_decode_usage: Callable[[bytes], Any] = msgspec.json.Decoder(struct_of(UsageEvent)).decode


def read_fields(value: bytes) -> UsageFields | None:
    """The event in these bytes; None if `UsageEvent` itself must read them."""
    try:
        read = _decode_usage(value)
        read.occurred_at = parse_time(read.occurred_at)
        read.started_at = parse_time(read.started_at)
        check_signs_and_references(read.kind, read.cost_nanousd, read.corrects)
    except (msgspec.MsgspecError, ValueError):
        return None
    fields: UsageFields = read
    return fields


def event_of(fields: UsageFields) -> UsageEvent:
    """The same as a `UsageEvent`."""
    return construct_unchecked(UsageEvent, msgspec.structs.asdict(fields))


# Totals from history are few and are left to the model.
_decode_total: Callable[[bytes], Any] = msgspec.json.Decoder(
    struct_of(Total, only={"source_partition": int, "before": None})
).decode


def read_total(value: bytes) -> Total | None:
    """The total in these bytes; None if `Total` itself must read them."""
    try:
        read = _decode_total(value)
        read.window_start = remembered_parse(read.window_start)
    except (msgspec.MsgspecError, ValueError):
        return None
    return construct_unchecked(Total, msgspec.structs.asdict(read))


def _times_of(model: type[Wire]) -> tuple[str, ...]:
    """The fields that are times. All others have types that msgspec and pydantic write in the same way."""
    hints = get_type_hints(model, include_extras=True)
    return tuple(name for name, hint in hints.items() if hint == UtcTime or UtcTime in get_args(hint))


_TIMES: dict[type[Wire], tuple[str, ...]] = {model: _times_of(model) for model in (Total, Signal, UsageEvent)}
_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def write_json(value: Wire) -> bytes:
    """The value as JSON, its fields in the order of its model."""
    times = _TIMES.get(type(value))
    if times is None:
        return value.model_dump_json().encode()
    fields = value.__dict__.copy()
    for name in times:
        time = fields[name]
        # msgspec omits the decimals of a whole second; otherwise it writes times like `format_time`.
        if time is not None and (time.tzinfo is not UTC or not time.microsecond):
            fields[name] = remembered_time(time)
    return _encode(fields)
