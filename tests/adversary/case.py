"""One request that a client may send, and how that client behaves: frozen, and the same when read back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Reads = Literal["all", "leaves", "stalls"]
"""`leaves` closes the connection after so many milliseconds; `stalls` keeps it open that long unread."""


@dataclass(frozen=True, slots=True)
class Control:
    """A field that a client adds to a request, wherever it stands."""

    name: str
    value: str
    """As JSON; `$VICTIM` stands for the hash of somebody else's key."""
    where: Literal["body", "header"] = "body"


@dataclass(frozen=True, slots=True)
class Case:
    """One request, or the same one again."""

    route: str
    """A name in routes.py."""
    model: str
    owner: str = "plain"
    """Whose key: `plain`, `crowd` (a strict budget that is never filled), `small` (one that little fits
    into), or of which kind the budget is that they have spent."""
    words: int = 12
    """Of the prompt."""
    directive: tuple[tuple[str, int | str], ...] = ()
    """What the upstream answers (spendmeter_local/upstream/plan.py)."""
    stream: bool = False
    controls: tuple[Control, ...] = ()
    depth: int = 0
    """Lists that the values of the body's controls are nested in."""
    marker: str = ""
    """A word of the prompt that a guardrail blocks."""
    reads: Reads = "all"
    after_ms: int = 0
    repeat: int = 1
    is_parallel: bool = False
    """Whether the repeated requests run at one time."""
    polls: int = 0
    """How often what was answered is read again by its id."""

    @property
    def is_left(self) -> bool:
        """Whether somebody may give up before all that the upstream wrote was read."""
        names = [control.name for control in self.controls]
        # Of a list LiteLLM cancels every call but the fastest, some before they were sent.
        is_race = "," in self.model and "fastest_response" in names
        return self.reads != "all" or is_race or any("timeout" in name for name in names)

    def to_json(self) -> str:
        """What `--replay` reads."""
        return json.dumps(asdict(self), indent=1)

    def with_directive(self, **changes: int | str | None) -> "Case":
        """The case with these parts of its directive; None takes one out."""
        merged = {**dict(self.directive), **changes}
        return replace(self, directive=tuple((n, v) for n, v in merged.items() if v is not None))


def from_json(text: str) -> Case:
    """A case that `to_json` wrote. Raises KeyError, TypeError, ValueError where it did not."""
    data: Mapping[str, Any] = json.loads(text)
    known = {field.name for field in fields(Case)}
    given = {name: value for name, value in data.items() if name in known}
    given["directive"] = tuple((name, value) for name, value in data.get("directive", ()))
    given["controls"] = tuple(Control(**control) for control in data.get("controls", ()))
    return Case(**given)
