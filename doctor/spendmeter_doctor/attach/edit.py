"""The change of a configuration's text: only the lines that are needed, everything else byte for byte. Pure.

No YAML library that writes keeps every comment, quote and blank line; a few lines put into the text do.
The result is read again, and is refused unless it says exactly what was wanted.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from spendmeter_doctor.litellm_config import (
    CALLBACK,
    OLD_CALLBACK,
    OUR_CALLBACKS,
    SETTINGS,
    InvalidConfig,
    LitellmConfig,
    parse_config,
)

CALLBACKS, NO_LOG = "callbacks", "global_disable_no_log_param"
_Lines = list[str]


class NotEditable(ValueError):
    """The text is written in a way that this does not change by itself; the message says what to write."""


def attached(config: LitellmConfig, callback: str = CALLBACK) -> str:
    """The text with our callback, and with `no-log` switched off. The same text if both are there.

    Raises:
        NotEditable: such as a section written in braces.
    """
    wanted = _wanted(config.values, callback)
    if wanted == config.values:
        return config.text
    try:
        lines = _with_callback(config, config.text.splitlines(keepends=True), callback)
        text = "".join(_with_no_log(config, lines))
        if parse_config(text, config.path).values == wanted:
            return text
    except InvalidConfig:
        pass
    raise NotEditable(
        f"{config.path} is written in a way that is not changed by itself; add to `{SETTINGS}:`"
        f" `{CALLBACKS}: {callback}` and `{NO_LOG}: true`"
    )


def _wanted(values: Mapping[str, Any], callback: str) -> dict[str, Any]:
    given = values.get(SETTINGS) or {}
    if not isinstance(given, Mapping):
        raise NotEditable(f"`{SETTINGS}:` is no mapping; write `{SETTINGS}:` and its fields below it")
    settings = dict(given)
    listed = settings.get(CALLBACKS)
    names = list(listed) if isinstance(listed, list) else [listed] if listed else []
    ours = [one for one in names if one in OUR_CALLBACKS]
    if not ours:
        names.append(callback)
        settings[CALLBACKS] = names if isinstance(listed, list) or len(names) > 1 else callback
    elif OLD_CALLBACK in ours:
        renamed = [callback if one == OLD_CALLBACK else one for one in names]
        settings[CALLBACKS] = renamed if isinstance(listed, list) else renamed[0]
    settings[NO_LOG] = True
    return {**values, SETTINGS: settings}


def _with_callback(config: LitellmConfig, lines: _Lines, callback: str) -> _Lines:
    listed = config.get(SETTINGS, CALLBACKS)
    at = config.lines.get((SETTINGS, CALLBACKS))
    names = listed if isinstance(listed, list) else [listed] if listed else []
    if OLD_CALLBACK in names:
        return _replaced(config, lines, OLD_CALLBACK, callback)
    if any(one in OUR_CALLBACKS for one in names):
        return lines
    if at is None:
        return _in_section(config, lines, f"{CALLBACKS}: {callback}")
    if not names:
        only = f"[{callback}]" if isinstance(listed, list) else callback
        return _on_line(lines, at, lambda line: _with_value(line, only))
    last = config.lines.get((SETTINGS, CALLBACKS, len(names) - 1))
    if isinstance(listed, list) and last is not None and last > at:
        item = lines[last - 1]
        dash = item[: len(item) - len(item.lstrip())]
        return [*lines[:last], f"{dash}- {callback}{_end(lines)}", *lines[last:]]
    return _on_line(lines, at, lambda line: _in_brackets(line, isinstance(listed, list), callback))


def _in_brackets(line: str, is_list: bool, callback: str) -> str:
    """`callbacks: a` or `callbacks: [a]`, with one more; a comment behind it stays."""
    found = re.fullmatch(r"(\s*\w+:\s*)(\[?)(.*?)(\]?)(\s*(?:#.*)?\n?)", line, re.DOTALL)
    if found is None or bool(found[2]) != is_list:
        return line
    return f"{found[1]}[{found[3]}, {callback}]{found[5]}"


def _replaced(config: LitellmConfig, lines: _Lines, old: str, new: str) -> _Lines:
    start = config.lines[SETTINGS, CALLBACKS] - 1
    at = next((n for n in range(start, len(lines)) if old in lines[n]), start)
    return _on_line(lines, at + 1, lambda line: line.replace(old, new, 1))


def _with_no_log(config: LitellmConfig, lines: _Lines) -> _Lines:
    if config.get(SETTINGS, NO_LOG) is True:
        return lines
    present = parse_config("".join(lines), config.path)
    at = present.lines.get((SETTINGS, NO_LOG))
    if at is None:
        return _in_section(present, lines, f"{NO_LOG}: true")
    return _on_line(lines, at, lambda line: _with_value(line, "true"))


def _in_section(config: LitellmConfig, lines: _Lines, entry: str) -> _Lines:
    """A new line as the first of `litellm_settings`, which is made at the end if there is none."""
    at, end = config.lines.get((SETTINGS,)), _end(lines)
    if at is None:
        closed = [*lines[:-1], lines[-1].rstrip("\r\n") + end] if lines else []
        return [*closed, *([end] if closed else []), f"{SETTINGS}:{end}", f"  {entry}{end}"]
    if config.get(SETTINGS) is None:
        lines = _on_line(lines, at, lambda line: _with_value(line, ""))
        return [*lines[:at], f"  {entry}{end}", *lines[at:]]
    fields = [line for path, line in config.lines.items() if len(path) == 2 and path[0] == SETTINGS]
    first = min(fields, default=at)
    indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
    return [*lines[: first - 1], f"{indent}{entry}{end}", *lines[first - 1 :]]


def _with_value(line: str, value: str) -> str:
    """`name: value`, with the comment that was behind it."""
    name, _, rest = line.partition(":")
    kept = re.search(r"\s*(?<=\s)#.*$|\s*$", rest, re.DOTALL)
    return f"{name}: {value}".rstrip() + (kept[0] if kept else "")


def _on_line(lines: _Lines, number: int, change: Callable[[str], str]) -> _Lines:
    return [*lines[: number - 1], change(lines[number - 1]), *lines[number:]]


def _end(lines: _Lines) -> str:
    return "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
