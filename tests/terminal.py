"""A terminal for the commands of a page: what they set stays set, `spendmeter …` runs in this process."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.probes import wait_until
from tests.console_blocks import ShownCommand, missing
from tests.patience import WITHIN_SECONDS

_FUNCTION = re.compile(r"\w+\(\) \{")
_EXPORT = re.compile(r"export (\w+)=(.*)", re.DOTALL)
_OF_THE_SHELL = re.compile(r"[|;&<>]|\$\(")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_READS = re.compile(
    r"ask |curl |spendmeter (explain|refusals|top|status|query|reconcile"
    r"|budget (show|list)|alerts (log|list))\b"
)
"""What may be said again until it shows what the page shows."""


class Output(NamedTuple):
    text: str
    exit_code: int


class Terminal:
    """A person at a page: a folder, an environment, and what the page's commands have made of both."""

    def __init__(
        self, folder: Path, env: Mapping[str, str], patch: pytest.MonkeyPatch, hidden: str = ""
    ) -> None:
        """`hidden`: what stands before names here alone, and is left out of what is printed."""
        self.folder = folder
        self._hidden = hidden
        self._patch = patch
        self._functions: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        patch.chdir(folder)
        for name, value in env.items():
            patch.setenv(name, value)

    def shows(self, one: ShownCommand) -> None:
        """Run the command; fail unless it prints what the page shows.

        One of which nothing is shown must end well.
        """
        said = [Output("", 0)]

        def is_shown() -> bool:
            text, exit_code = self.run(one.command)
            said[0] = Output(text.replace(self._hidden, "") if self._hidden else text, exit_code)
            return not missing(one.shown, said[0].text) and (bool(one.shown) or not said[0].exit_code)

        if is_shown():
            return
        again = _READS.match(one.command) or said[0].exit_code
        shown = bool(again) and wait_until(is_shown, timeout_seconds=WITHIN_SECONDS)
        lacking = missing(one.shown, said[0].text)
        assert shown, f"$ {one.command}\nlacks {lacking} in\n{said[0].text}"

    def run(self, command: str) -> Output:
        """What it prints on both streams, and its exit code."""
        if _FUNCTION.match(command):
            self._functions.append(command)
            return Output("", 0)
        if found := _EXPORT.fullmatch(command):
            return self._export(found[1], found[2])
        if command.endswith("&"):
            return self._start(command.removesuffix("&"))
        unquoted = _QUOTED.sub("", command).partition(" #")[0]
        if command.startswith("spendmeter ") and not _OF_THE_SHELL.search(unquoted):
            return self._spendmeter(command)[0]
        return self._bash(command)

    def end(self) -> None:
        """End what the page left running."""
        for process in self._running:
            kill_child(process)

    def _export(self, name: str, value: str) -> Output:
        if inside := re.fullmatch(r"\$\((spendmeter .*)\)", value):
            output, printed = self._spendmeter(inside[1])
        else:
            output = self._bash(f"printf %s {value}")
            printed = output.text
        self._patch.setenv(name, printed.strip())
        return output

    def _start(self, command: str) -> Output:
        log = self.folder / f"started-{len(self._running)}.log"
        self._running.append(start_child(self._in_bash(f"exec {command}"), log=log))
        return Output("", 0)

    def _spendmeter(self, command: str) -> tuple[Output, str]:
        """The output, and what of it was printed on the first stream."""
        arguments = shlex.split(os.path.expandvars(command), comments=True)[1:]
        result = CliRunner().invoke(main, arguments)
        return Output(result.output, result.exit_code), result.stdout

    def _bash(self, command: str) -> Output:
        done = subprocess.run(
            self._in_bash(command),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WITHIN_SECONDS,
            check=False,
        )
        return Output(done.stdout.decode().replace("\r", ""), done.returncode)

    def _in_bash(self, command: str) -> list[str]:
        return ["bash", "-c", "\n".join([*self._functions, command])]
