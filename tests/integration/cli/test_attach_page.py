"""docs/attach.md: its commands that need no proxy, on the real broker and engine, print what the page shows.

The whole page is executed where there is a LiteLLM with Postgres: tests/litellm_postgres.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.console_blocks import ShownCommand, commands, missing, yaml_files
from tests.patience import WITHIN_SECONDS

PAGE = (Path(__file__).parents[3] / "docs/attach.md").read_text(encoding="utf-8")
OF_THE_DATABASE = ("take-over would", "to do so")
"""Lines that a running proxy adds."""
ENTRY = "from spendmeter.cli.entry import main; main()"


def shown_by(start: str) -> ShownCommand:
    [found] = [one for one in commands(PAGE) if one.command.startswith(start)]
    return found


def test_the_commands_that_need_no_proxy_print_what_the_page_shows(
    kafka: str, clickhouse: str, topic_prefix: str, database: str, tmp_path: Path
) -> None:
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
        "SPENDMETER_CLICKHOUSE_URL": clickhouse,
        "SPENDMETER_CLICKHOUSE_DATABASE": database,
        "SPENDMETER_TOPIC_PREFIX": topic_prefix,
        "SPENDMETER_DATA_DIR": str(tmp_path / "data"),
        "SLACK_URL": "json://127.0.0.1:1/",
    }

    def run(command: str) -> str:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *arguments],
            env=os.environ | env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return (done.stdout + done.stderr).replace(topic_prefix, "").replace(database, "spend")

    for name, text in yaml_files(PAGE).items():
        (tmp_path / name).write_text(text)
    for start in ("spendmeter topics", "spendmeter sink migrate", "spendmeter attach"):
        command, shown = shown_by(start)
        expected = [line for line in shown if not line.startswith(OF_THE_DATABASE)]
        assert missing(expected, run(command)) == []

    assert "nothing is wrong" in run(shown_by("spendmeter doctor").command)
    assert "everything" in run("spendmeter alerts preview --example")


def test_the_page_has_ten_steps() -> None:
    numbered = [line for line in PAGE.splitlines() if line.startswith("## ") and line[3].isdigit()]

    assert [line.split(". ")[0] for line in numbered] == [
        *(f"## {n}" for n in range(1, 6)),
        "## 6 to 8",
        "## 9",
        "## 10",
    ]
    assert len(list(commands(PAGE))) == 13


def test_a_line_that_a_command_does_not_print_is_found() -> None:
    assert missing(["a …c", "d"], "x\na bc\nd\n") == []
    assert missing(["d", "a …c"], "a bc\nd\n") == ["a …c"]
