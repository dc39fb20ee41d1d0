"""What a change of our JSON Schemas breaks: for those who read records, and for those who write them.

A reader of before meets records of after, and it ignores fields that it does not know. A writer of before
(also one that is gone, whose records are kept) is read by what came after. What the checker does not know, it
refuses to judge: a schema with another keyword is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Schema: TypeAlias = dict[str, Any]
READERS: Literal["readers"] = "readers"
WRITERS: Literal["writers"] = "writers"

UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
SAID = frozenset(("$schema", "title", "description", "definitions"))
"""Keywords that decide nothing by themselves."""
JUDGED = frozenset(
    (
        *UPPER,
        *LOWER,
        *("type", "anyOf", "$ref", "enum", "const", "properties", "required", "default", "format", "pattern"),
        *("items", "additionalProperties", "propertyNames"),
    )
)


class UnknownKeyword(ValueError):
    """A schema says something that the checker cannot compare."""


@dataclass(frozen=True, order=True)
class Break:
    """One thing that an older reader or writer stumbles over."""

    where: str
    """The record and the path of the field in it: `alert.v1/signal/state`."""
    who: Literal["readers", "writers"]
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.who}: {self.what}"


def find_breaks(before: dict[str, Schema], after: dict[str, Schema]) -> list[Break]:
    """All that the change breaks, by the schemas of each record. Raises UnknownKeyword."""
    found = [Break(name, READERS, "gone") for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        found += _Comparison(before[name], after[name]).compare(before[name], after[name], name)
    return sorted(set(found))


@dataclass(frozen=True)
class _Comparison:
    before: Schema
    after: Schema

    def compare(self, before: Schema, after: Schema, where: str) -> Iterator[Break]:
        """What is broken between two schemas of one value."""
        old, new = _kinds(before, self.before), _kinds(after, self.after)
        # Every integer is a number: one of the two sides does not notice.
        if "integer" in old and "integer" not in new and "number" in new:
            yield Break(where, READERS, "may be no integer now")
            old["number"] = old.pop("integer")
        if "integer" in new and "integer" not in old and "number" in old:
            yield Break(where, WRITERS, "may be no number but an integer any more")
            new["number"] = new.pop("integer")
        for kind in old.keys() - new.keys():
            yield Break(where, WRITERS, f"may not be {kind} any more")
        for kind in new.keys() - old.keys():
            yield Break(where, READERS, f"may be {kind} now")
        for kind in old.keys() & new.keys():
            yield from _compare_values(old[kind], new[kind], where)
            yield from _compare_bounds(old[kind], new[kind], where)
            yield from self._compare_fields(old[kind], new[kind], where)
            yield from self._compare_inner(old[kind], new[kind], where)

    def _compare_fields(self, old: Schema, new: Schema, where: str) -> Iterator[Break]:
        was, now = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in was.keys() - now.keys():
            yield Break(f"{where}/{name}", READERS, "removed")
        for name in sorted(needs - needed):
            yield Break(f"{where}/{name}", WRITERS, "required now")
        for name in sorted(needed & now.keys() - needs):
            yield Break(f"{where}/{name}", READERS, "may be absent now")
        for name in was.keys() & now.keys():
            path = f"{where}/{name}"
            yield from self.compare(was[name], now[name], path)
            defaults = was[name].get("default"), now[name].get("default")
            if name not in needed | needs and defaults[0] != defaults[1]:
                yield Break(path, WRITERS, f"absent meant {defaults[0]!r} and means {defaults[1]!r}")

    def _compare_inner(self, old: Schema, new: Schema, where: str) -> Iterator[Break]:
        """Items of arrays; names and values of maps."""
        for keyword, path in (("items", "[]"), ("additionalProperties", "*"), ("propertyNames", "names")):
            was, now = old.get(keyword, True), new.get(keyword, True)
            if isinstance(was, dict) and isinstance(now, dict):
                yield from self.compare(was, now, f"{where}/{path}")
            elif was != now:
                who = WRITERS if was is True or now is False else READERS
                yield Break(where, who, f"{keyword} was {was}, is {now}")


def _kinds(schema: Schema, whole: Schema) -> dict[str, Schema]:
    """The schema's alternatives by their JSON type; a schema without one, such as of names, is of any."""
    if reference := schema.get("$ref"):
        return _kinds(whole["definitions"][reference.removeprefix("#/definitions/")], whole)
    if unknown := schema.keys() - SAID - JUDGED:
        raise UnknownKeyword(f"{', '.join(sorted(unknown))}: teach tests/schema_changes.py to compare it")
    if alternatives := schema.get("anyOf"):
        kinds: dict[str, Schema] = {}
        for alternative in alternatives:
            for kind, one in _kinds(alternative, whole).items():
                if kind in kinds:
                    raise UnknownKeyword(f"two alternatives of type {kind}")
                kinds[kind] = one
        return kinds
    types = schema.get("type", "any")
    return dict.fromkeys([types] if isinstance(types, str) else types, schema)


def _compare_values(old: Schema, new: Schema, where: str) -> Iterator[Break]:
    was, now = _listed(old), _listed(new)
    if was is None or now is None:
        if now is not None:
            yield Break(where, WRITERS, f"only {sorted(now)} now")
        if was is not None:
            yield Break(where, READERS, f"may be other than {sorted(was)} now")
        return
    for value in was - now:
        yield Break(where, WRITERS, f"may not be {value!r} any more")
    for value in now - was:
        yield Break(where, READERS, f"may be {value!r} now")


def _listed(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _compare_bounds(old: Schema, new: Schema, where: str) -> Iterator[Break]:
    for keyword in (*UPPER, *LOWER):
        was, now = old.get(keyword), new.get(keyword)
        if was == now:
            continue
        sign = 1 if keyword in UPPER else -1
        tighter = was is None or (now is not None and sign * now < sign * was)
        yield Break(where, WRITERS if tighter else READERS, f"{keyword} was {was}, is {now}")
    for keyword in ("format", "pattern"):
        was, now = old.get(keyword), new.get(keyword)
        if was != now and now is not None:
            yield Break(where, WRITERS, f"{keyword} was {was}, is {now}")
        if was != now and was is not None:
            yield Break(where, READERS, f"{keyword} was {was}, is {now}")
