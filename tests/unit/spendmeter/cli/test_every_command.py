"""Every command as a stranger meets it: whatever is given, one sentence and a documented exit code.

The commands, their arguments and options come from the command line's parser: a new one is walked too.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import pytest

from spendmeter.cli.main import main
from spendmeter.cli.options import CostOption, DurationOption, TimeOption, UsdOption

OURS = Path(str(import_module("spendmeter.cli").__file__)).parent
STRANGER = Path(__file__).with_name("stranger.py")
WITHIN_SECONDS = 300
DONE, NO, MISUSED, NOT_RUNNING, INTERRUPTED = 0, 1, 2, 3, 130
CODES = {DONE, NO, MISUSED, NOT_RUNNING}
NOWHERE = {
    "PATH": "/usr/bin:/bin",
    "COLUMNS": "80",
    "SPENDMETER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "SPENDMETER_CLICKHOUSE_URL": "http://127.0.0.1:1",
    "SPENDMETER_PROXY_URL": "http://127.0.0.1:1",
    "SPENDMETER_MASTER_KEY": "sk-stranger",
    # So that nothing is fetched or started.
    "SPENDMETER_CACHE_DIR": "/dev/null/cache",
}
SILENT = {
    **NOWHERE,
    "SPENDMETER_KAFKA_BOOTSTRAP": "127.0.0.1:{port}",
    "SPENDMETER_CLICKHOUSE_URL": "http://127.0.0.1:{port}",
    "SPENDMETER_PROXY_URL": "http://127.0.0.1:{port}",
}
BAD_TEXT = (
    "",
    " ",
    "-1",
    "0",
    "nan",
    "1e999",
    "x" * 100_000,
    "[/x] :key: [bold]",
    "\x1b[31m\x1b]0;title\x07",
    "a\nError: b",
    "\u202eabc",
    "\udcff",
    "日本語💥",
    "2026-13-45",
    "00000000-0000-0000-0000-000000000000",
)
FEW_TEXTS = ("", "[/x]\x1b[31m\u202e\udcff")
# What may reach a terminal: letters of any script, and line breaks that are ours.
ACTS_ON_A_TERMINAL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Leaf(NamedTuple):
    path: tuple[str, ...]
    command: click.Command


class Ended(NamedTuple):
    code: int | str
    out: str
    err: str


def leaves(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield Leaf((*path, name), command)


EVERY = list(leaves())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Files that a stranger may give. Not pytest's own folder, which only its user may enter."""
    with TemporaryDirectory(prefix="stranger") as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "readable.yaml").write_text("budgets: []\n")
        (path / "empty").write_bytes(b"")
        (path / "binary").write_bytes(bytes(range(256)) * 64)
        (path / "utf-16").write_bytes("budgets: []\n".encode("utf-16"))
        (path / "latin-1").write_bytes("budgets: # für alle\n".encode("latin-1"))
        (path / "deep").write_text("[" * 100_000)
        (path / "laughs").write_text(
            "x-0: &a0 {k: v}\n"
            + "".join(
                f"x-{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}], k{i}: v}}\n" for i in range(1, 30)
            )
            + "budgets: [*a29]\nprices: [*a29]\n"
        )
        with (path / "huge").open("wb") as huge:
            huge.truncate(64 * 1024 * 1024)
        (path / "secret").write_bytes(b"budgets: []\n")
        (path / "secret").chmod(0o600)
        (path / "folder").mkdir()
        yield path


def bad_files(folder: Path) -> list[str]:
    return [
        "",
        "missing",
        "-",
        "/dev/zero",
        *(str(path) for path in sorted(folder.iterdir()) if path.name != "readable.yaml"),
    ]


def valid(parameter: click.Parameter, folder: Path) -> str:
    match parameter.type:
        case click.Path():
            return str(folder / ("readable.yaml" if parameter.type.exists else "no-stack"))
        case UsdOption() | CostOption():
            return "1"
        case TimeOption():
            return "2999-01-01T00:00:00Z"
        case DurationOption():
            return "1h"
        case click.Choice():
            return str(next(iter(parameter.type.choices)))
        case click.DateTime():
            return "2026-01-01"
    return "00000000-0000-0000-0000-000000000001" if parameter.type is click.UUID else "1"


def arguments(leaf: Leaf, folder: Path, changed: click.Parameter | None = None, to: str = "") -> list[str]:
    """A call of the command with all that it requires, and one parameter as is said."""
    options, positional = [], []
    for parameter in leaf.command.params:
        value = to if parameter is changed else valid(parameter, folder)
        if isinstance(parameter, click.Argument):
            if parameter.required or parameter is changed:
                positional.append(value)
        elif parameter.required or parameter is changed:
            options += [f"{parameter.opts[0]}={value}"]
    return [*leaf.path, *options, "--", *positional]


def takes_value(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument) or not getattr(parameter, "is_flag", False)


def call_all(cases: Sequence[dict[str, Any]], folder: Path) -> list[Ended]:
    """What became of each case, given as arguments and whatever differs from a plain call with no server."""
    lines = [json.dumps({"env": NOWHERE, "cwd": str(folder), **case}) for case in cases]
    ran = subprocess.run(
        [sys.executable, str(STRANGER)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = [Ended(**json.loads(line)) for line in ran.stdout.splitlines()]
    assert len(found) == len(cases), ran.stderr
    return found


def faults_of(case: dict[str, Any], ended: Ended, codes: set[int]) -> list[str]:
    """What a stranger would complain about."""
    said = ended.out + ended.err
    found = []
    if ended.code not in codes:
        found.append(f"exit code {ended.code}")
    if "Traceback" in said or "Exception ignored" in said:
        found.append("a traceback")
    if acts := ACTS_ON_A_TERMINAL.search(said):
        found.append(f"{acts.group()!r} reaches the terminal")
    if ended.code not in (DONE, NOT_RUNNING, INTERRUPTED) and not case.get("closed_pipe"):
        errors = [line for line in ended.err.splitlines() if line.strip()]
        if not errors:
            found.append("no word of why")
        elif len(errors[-1]) > 1_000 and not any(len(text) > 1_000 for text in case["args"]):
            found.append("a long story")
    return [f"{' '.join(case['args'])[:200]!r}: {one}\n{said[-1500:]}" for one in found]


def walk(cases: Sequence[dict[str, Any]], folder: Path, codes: set[int] = CODES) -> list[Ended]:
    ended = call_all(cases, folder)
    faults = [fault for case, one in zip(cases, ended, strict=True) for fault in faults_of(case, one, codes)]
    assert not faults, f"{len(faults)} of {len(cases)} calls:\n" + "\n".join(faults[:20])
    return ended


def test_there_are_commands_to_walk() -> None:
    assert len(EVERY) > 25
    assert ("explain",) in [leaf.path for leaf in EVERY]
    assert ("budget", "apply") in [leaf.path for leaf in EVERY]


def test_one_module_prints_for_all_commands() -> None:
    """Else one of them would forget that what it prints is data."""
    modules = {leaf.command.callback.__module__ for leaf in EVERY if leaf.command.callback is not None}
    files = {Path(str(import_module(module).__file__)) for module in modules} | set(OURS.glob("*.py"))

    printing = {
        path.name
        for path in files
        for line in path.read_text("utf-8").splitlines()
        # The progress of a download shows nothing but our own file names.
        if re.search(r"click\.s?echo|(?<![\w.])print\(|Console\(", line)
        and "Console(stderr=True)" not in line
    }
    assert printing == {"printing.py"}


def test_whatever_is_given_where_a_value_belongs_ends_in_a_sentence(folder: Path) -> None:
    cases = []
    met = set()
    for leaf in EVERY:
        for parameter in filter(takes_value, leaf.command.params):
            # What reads values of one type is met with everything once, and with a little at each place.
            texts: Sequence[str] = FEW_TEXTS
            if (kind := str(parameter.type)) not in met:
                met.add(kind)
                texts = bad_files(folder) if isinstance(parameter.type, click.Path) else BAD_TEXT
            cases += [{"args": arguments(leaf, folder, parameter, text)} for text in texts]

    walk(cases, folder)


def test_a_file_that_is_no_text_is_named_with_what_it_is(folder: Path) -> None:
    said = {
        "utf-16": "is UTF-16; save it as UTF-8, such as with: iconv -f UTF-16 -t UTF-8",
        "latin-1": "byte 0xfc is not UTF-8 (in Latin-1 it is 'ü')",
        "binary": "is a binary file",
        "huge": "is larger than 16,777,216 bytes",
        "deep": "more than 32 levels deep",
        "folder": "is a directory",
        "empty": "there are no",
    }
    takers = [
        (leaf, parameter)
        for leaf in EVERY
        for parameter in leaf.command.params
        if isinstance(parameter.type, click.Path) and parameter.type.exists and parameter.type.allow_dash
    ]
    cases = [
        {"args": arguments(leaf, folder, parameter, str(folder / name))}
        for leaf, parameter in takers
        for name in said
    ]

    ended = walk(cases, folder, {MISUSED})

    assert len(takers) >= 2
    for one, words in zip(ended, [*said.values()] * len(takers), strict=True):
        assert words in one.err


def test_nothing_is_given_at_all(folder: Path) -> None:
    walk(
        [{"args": list(leaf.path), "env": {**NOWHERE, "SPENDMETER_DIR": "/dev/null"}} for leaf in EVERY],
        folder,
    )


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(
            {"env": {"PATH": "/usr/bin:/bin"}, "nobody": True, "process": True},
            id="no home, no name, nothing set",
        ),
        pytest.param({"nobody": True, "process": True, "cwd": "/"}, id="a folder that is read-only"),
        pytest.param({"cwd": "/", "env": {**NOWHERE, "SPENDMETER_DIR": "/dev/null/stack"}}, id="no folder"),
        pytest.param({"encoding": "ascii"}, id="a terminal that knows ASCII only"),
        pytest.param({"encoding": "latin-1", "env": {**NOWHERE, "NO_COLOR": "1"}}, id="Latin-1, no colour"),
        pytest.param({"env": {**NOWHERE, "SPENDMETER_KAFKA_SECURITY_PROTOCOL": "SSL"}}, id="TLS to nowhere"),
        pytest.param(
            {
                "env": {
                    **NOWHERE,
                    "SPENDMETER_KAFKA_BOOTSTRAP": "kafka://a:x,b:99999999999,[::1",
                    "SPENDMETER_CLICKHOUSE_URL": "http://:x\x1b[31m",
                    "SPENDMETER_PROXY_URL": "ftp://\x1b[31m",
                    "SPENDMETER_MASTER_KEY": "sk-ü\n",
                    "SPENDMETER_KAFKA_SSL_CAFILE": "/dev/null",
                    "SPENDMETER_PARTITIONS": "many",
                }
            },
            id="every setting wrong",
        ),
    ],
)
def test_every_command_in_a_hostile_place(folder: Path, condition: dict[str, Any]) -> None:
    walk([{"args": arguments(leaf, folder), **condition} for leaf in EVERY], folder)


@pytest.mark.parametrize(
    "condition", [{}, {"encoding": "ascii"}, {"env": {"PATH": ""}, "nobody": True, "process": True}]
)
def test_help_is_there_everywhere(folder: Path, condition: dict[str, Any]) -> None:
    walk([{"args": [*leaf.path, "--help"], **condition} for leaf in EVERY], folder, {DONE})


def test_a_reader_that_goes_away_ends_every_command_quietly(folder: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"args": [*leaf.path, "--help"], "closed_pipe": True, "process": True} for leaf in EVERY
    ]
    cases += [{"args": arguments(leaf, folder), "closed_pipe": True, "process": True} for leaf in EVERY]

    walk(cases, folder)


def test_ctrl_c_in_the_middle_ends_every_command_at_once(folder: Path) -> None:
    """Whatever asks a server is interrupted while it waits for the answer; the others are done by then."""
    ended = walk(
        [
            {"args": arguments(leaf, folder), "env": SILENT, "interrupt": True, "process": True}
            for leaf in EVERY
        ],
        folder,
        CODES | {INTERRUPTED},
    )

    interrupted = [leaf.path for leaf, one in zip(EVERY, ended, strict=True) if one.code == INTERRUPTED]
    assert {("budget", "list"), ("query",), ("key", "list"), ("reconcile",)} <= set(interrupted)


def test_nobody_who_reads_needs_more_than_eighty_columns_for_help(folder: Path) -> None:
    ended = call_all([{"args": [*leaf.path, "--help"]} for leaf in EVERY], folder)

    wide = [line for one in ended for line in one.out.splitlines() if len(line) > 80]
    assert wide == []


def test_a_secret_file_is_refused_in_a_sentence(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become a user who may not read the file")
    (ended,) = walk(
        [{"args": ["budget", "apply", str(folder / "secret")], "nobody": True, "process": True}],
        folder,
        {MISUSED},
    )

    assert "is not readable" in ended.err
