"""How a provider's answer can go wrong: its usage, and its end. Pure.

| `usage=` | what the answer reports |
| --- | --- |
| `plain` | the counts |
| `missing` | nothing |
| `zero` | zeros |
| `strings` | the counts, as strings |
| `negative` | the counts, below zero |
| `costless` | the counts, and `"cost": 0` beside them |

| `fault=` | what happens |
| --- | --- |
| `none` | the answer is written |
| `reset` | the connection is closed before anything was done |
| `late` | the work is done, and answered with status 500 |
| `cut` | the connection is closed in the middle of the answer |
| `malformed` | the work is done; the answer is not JSON |
| `hang` | the work is done, and nothing is answered for a minute |
"""

from collections.abc import Callable
from typing import Any, Literal

UsageForm = Literal["plain", "missing", "zero", "strings", "negative", "costless"]
Fault = Literal["none", "reset", "late", "cut", "malformed", "hang"]

HANG_SECONDS = 60
_USAGE = ("usage", "usageMetadata")
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount")
_OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount")
_CHANGED: dict[UsageForm, Callable[[int], Any]] = {
    "zero": lambda count: 0,
    "strings": str,
    "negative": lambda count: -count,
}


def disturbed(data: Any, form: UsageForm) -> Any:
    """An answer, or an event of one, with its usage in that form."""
    if form == "plain":
        return data
    if isinstance(data, list):
        return [disturbed(one, form) for one in data]
    if not isinstance(data, dict):
        return data
    changed: dict[str, Any] = {}
    for name, value in data.items():
        if name not in _USAGE or not isinstance(value, dict):
            changed[name] = disturbed(value, form)
        elif form == "costless":
            changed[name] = {**value, "cost": 0}
        elif form != "missing":
            changed[name] = _counts(value, _CHANGED[form])
    return changed


def _counts(value: Any, change: Callable[[int], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _counts(one, change) for name, one in value.items()}
    if isinstance(value, list):
        return [_counts(one, change) for one in value]
    return change(value) if isinstance(value, int) else value


def gives_usage(data: Any, output_tokens: int) -> bool:
    """Whether this answer or event reports all usage in numbers: the output, or else the input."""
    if isinstance(data, list):
        return any(gives_usage(one, output_tokens) for one in data)
    if not isinstance(data, dict):
        return False
    for name, value in data.items():
        if name in _USAGE and isinstance(value, dict):
            if output_tokens:
                is_said = output_tokens in map(value.get, _OUTPUT)
            else:
                is_said = any(map(_is_above_zero, map(value.get, _INPUT)))
            if is_said:
                return True
        elif gives_usage(value, output_tokens):
            return True
    return False


def _is_above_zero(count: object) -> bool:
    return isinstance(count, int) and count > 0
