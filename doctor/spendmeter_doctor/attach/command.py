"""`spendmeter attach`: what to add to a LiteLLM configuration, adding it, and going back."""

import re
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import click

from spendmeter.cli.printing import say
from spendmeter.files.text import UnreadableFile, read_text_file, write_atomically
from spendmeter.litellm.api import LitellmApi, NotAnswered
from spendmeter.litellm.rows import read_litellm
from spendmeter.litellm.whole_import import taking_over
from spendmeter_doctor.attach.edit import NotEditable, attached
from spendmeter_doctor.checks.gateway import release_of
from spendmeter_doctor.checks.litellm import of_limits
from spendmeter_doctor.litellm_config import (
    CALLBACK,
    FILE_CALLBACK,
    InvalidConfig,
    LitellmConfig,
    read_config,
)
from spendmeter_gateway.checks import installed_litellm
from spendmeter_gateway.litellm.releases import LOADS_BY_NAME

INVALID, DIFFERS = 2, 1
_CALLBACK_FILE = "from spendmeter_gateway import callback\n"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_MAX_SHOWN = 20
_SECRET = re.compile(
    r"(?i)^(.\s*(?:- )?[\w.-]*(?:key|password|secret|token|url|dsn)[\w.-]*:\s*)(?!['\"]?os\.environ/)\S.*$"
)
"""A line with a value that no terminal should show: what stands beside our lines is the operator's."""


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--check", "action", flag_value="check", default=True, help="Only show what would change.  [default]"
)
@click.option("--write", "action", flag_value="write", help="Change the file; what it was is kept beside it.")
@click.option("--undo", "action", flag_value="undo", help="Put back what the file was before --write.")
@click.option(
    "--url", envvar="SPENDMETER_PROXY_URL", help="The running proxy: also show what a take-over changes."
)
@click.option("--api-key", envvar="SPENDMETER_MASTER_KEY", help="Its master key.")
def attach(config: Path, action: str, url: str | None, api_key: str | None) -> None:
    """Show what the LiteLLM configuration CONFIG needs for spendmeter, as a difference; or write it.

    Comments, order and quotes stay as they are. Exit 0: nothing is left to add, or it is done; 1: --check has
    something to add; 2: the file cannot be used.
    """
    if action == "undo":
        return _undo(config)
    try:
        read = read_config(config)
        callback = _callback()
        text = attached(read, callback)
    except (InvalidConfig, NotEditable) as error:
        raise _unusable(str(error)) from None
    _show_difference(read, text)
    _show_take_over(read, url, api_key)
    is_changed = text != read.text
    if action == "write":
        return _write(read, text, callback)
    if is_changed:
        say(f"to add this: spendmeter attach {config} --write", err=True)
        raise SystemExit(DIFFERS)
    return say(f"{config} has all that it needs")


def _callback() -> str:
    release = installed_litellm()
    is_old = release is not None and release_of(release) < release_of(LOADS_BY_NAME)
    return FILE_CALLBACK if is_old else CALLBACK


def _show_difference(config: LitellmConfig, text: str) -> None:
    name = config.path.name
    lines = unified_diff(config.text.splitlines(), text.splitlines(), name, name, lineterm="", n=2)
    for line in lines:
        say(_SECRET.sub(r"\1…", line), colour=_COLOURS.get(line[:1]))


def _show_take_over(config: LitellmConfig, url: str | None, api_key: str | None) -> None:
    """What else limits people, and who will."""
    for one in of_limits(config):
        say(f"stays: {one.what}; {one.fix}")
    if not url or not api_key:
        say(
            "limits in LiteLLM's database: name the running proxy (--url, --api-key) to see what a"
            " take-over changes"
        )
        return
    try:
        moved = list(_moved(LitellmApi(url, api_key)))
    except NotAnswered as error:
        say(f"limits in LiteLLM's database are not known: {error}")
        return
    for line in moved[:_MAX_SHOWN]:
        say(f"take-over would move aside: {line}")
    if len(moved) > _MAX_SHOWN:
        say(f"… and {len(moved) - _MAX_SHOWN} more")
    say(
        "to do so: spendmeter import litellm --take-over --apply"
        if moved
        else "a take-over has nothing to move"
    )


def _moved(api: LitellmApi) -> Iterator[str]:
    found, _ = read_litellm(api, "UTC")
    for owned in found:
        call = taking_over(owned)
        if call is not None:
            limits = [
                name for name in ("max_budget", "budget_limits", "model_max_budget") if name in call.body
            ]
            yield f"{owned.seen.description}: {', '.join(limits)}"


def _write(config: LitellmConfig, text: str, callback: str) -> None:
    path = config.path
    if text == config.text:
        return say(f"{path} has all that it needs; nothing was written")
    before = _kept(path)
    if before.exists():
        raise _unusable(
            f"{before} is there from an earlier --write; `spendmeter attach {path} --undo`, or remove it"
        )
    mode = path.stat().st_mode & 0o777
    write_atomically(before, config.text, mode=mode)
    write_atomically(path.resolve(), text, mode=mode)
    if callback == FILE_CALLBACK:
        file = path.with_name(f"{FILE_CALLBACK.partition('.')[0]}.py")
        if not file.exists():
            write_atomically(file, _CALLBACK_FILE)
            say(f"{file} was made: LiteLLM before {LOADS_BY_NAME} loads callbacks from files only")
    return say(f"{path} was written; what it was is in {before.name}. Restart the proxy")


def _undo(path: Path) -> None:
    before = _kept(path)
    if not before.exists():
        raise _unusable(f"there is no {before}; nothing was changed by --write, or it was undone")
    try:
        then, now = read_text_file(before), read_text_file(path)
        changed = attached(read_config(before), _callback())
    except (UnreadableFile, InvalidConfig, NotEditable) as error:
        raise _unusable(str(error)) from None
    if now != changed:
        raise _unusable(
            f"{path} was changed after --write, so it is not put back; remove the callback by hand,"
            f" and {before.name}"
        )
    write_atomically(path.resolve(), then, mode=path.stat().st_mode & 0o777)
    before.unlink()
    say(
        f"{path} is as it was. Restart the proxy; limits that were moved aside: spendmeter import"
        " litellm --undo --apply"
    )


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.before-spendmeter")


def _unusable(said: str) -> click.ClickException:
    error = click.ClickException(said)
    error.exit_code = INVALID
    return error
