"""The command blocks of docs/: which a test executes, and which not, with the reason.

python -m tests.docs_blocks        # prints those that no test executes, each with its reason
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

COOKBOOKS = "tests/e2e/test_cookbooks.py"
EXECUTED = {
    "attach.md": "tests/litellm_postgres/test_attach_page.py",
    "cookbook/alerts.md": COOKBOOKS,
    "cookbook/budgets.md": COOKBOOKS,
    "operations.md": COOKBOOKS,
    "quickstart.md": COOKBOOKS,
    "troubleshooting.md": COOKBOOKS,
}
"""Pages whose blocks with prompts (```console) are executed, each command in its order, and by which test."""
EXECUTED_AS_THEY_STAND = {
    ("budgets.md", "spendmeter budget apply budgets.yaml --dry-run"),
    ("budgets.md", "spendmeter budget create key-day"),
    ("history.md", "spendmeter top"),
    ("history.md", "spendmeter export"),
}
"""Blocks without output that tests/e2e/test_cookbooks.py executes line by line: page, and how they begin."""
NOT_EXECUTED = {
    (
        "admission.md",
        "spendmeter explain 01a2",
    ): "the id of one run; cookbook/budgets.md executes the command",
    (
        "alerts.md",
        "$ export SLACK_URL",
    ): "a real Slack; cookbook/alerts.md executes the same with a receiver of its own",
    (
        "attach.md",
        "export SPENDMETER_KAFKA_BOOTSTRAP",
    ): "addresses and secrets of the reader's; the test sets its own",
    ("attach.md", "$ pip install"): "an index that has the package; tests/matrix installs the wheel",
    (
        "budgets.md",
        "spendmeter import litellm",
    ): "a LiteLLM with its database; tests/litellm_postgres does it",
    ("deploy.md", "for target in"): "Docker",
    (
        "deploy.md",
        "cd deploy/compose",
    ): "Docker; tests/integration/deploy/test_compose.py starts what it would start",
    ("deploy.md", 'N="--namespace'): "Kubernetes",
    ("deploy.md", "python3 -m venv /opt"): "root and systemd; tests/unit/deploy checks the units",
    ("operations.md", "SPENDMETER_PARTITIONS=8"): "three brokers; attach.md executes the command",
    ("operations.md", "spendmeter doctor"): "servers of the reader's; tests/integration/cli/test_doctor.py",
    ("operations.md", "export SPENDMETER_CANARY_KEY"): "goes on for ever; tests/e2e/test_canary.py",
    ("operations.md", "SPENDMETER_WEB_PEOPLE_FILE"): "goes on for ever; tests/integration/console",
    ("operations.md", "spendmeter move"): "moves a system; tests/integration/sinks/test_incarnations.py",
    ("performance-goals.md", "python -m bench"): "hours",
    ("performance.md", "python -m bench"): "hours",
    ("prices.md", "spendmeter correct"): "the id of an event; tests/integration/cli/test_correct.py",
    ("quickstart.md", "git clone"): "an empty machine and the network",
    (
        "quickstart.md",
        "spendmeter up --detach",
    ): "tests/integration/local/test_up.py; the page's other commands run on a system of the test's",
    ("quickstart.md", "spendmeter down"): "tests/integration/local/test_up.py",
    ("reference/litellm-issues.md", "python -m pytest"): "is a run of tests",
    ("reference/python.md", "pip install"): "an index that has the package; tests/matrix installs the wheel",
    (
        "reference/versions.md",
        "kafka-features.sh",
    ): "Kafka's own tool; tests/versions/test_upgrades.py does it",
    (
        "topics.md",
        "$ export SPENDMETER_KAFKA",
    ): "tests/integration/kafka/test_subscribers.py runs the three programs",
}
"""By page and beginning of the block: what it needs, or what else shows it."""

_FENCE = re.compile(r"(?ms)^( *)```([a-z]*)\n(.*?)^ *```$")
_INDENTED = re.compile(r"(?m)(?:(?<=\n\n)|\A)((?:(?: {4}|\t)[^\n]*\n|\n(?=    ))+)")
_LANGUAGES = ("console", "sh", "bash", "shell")
_PROGRAMS = (
    "spendmeter|pip|python3?|make|git|docker|kubectl|kafka-[a-z]+\\.sh|curl|export|for|cd|litellm|systemctl"
)
_COMMAND = re.compile(rf"(?m)^\s*(?:\$ |(?:[A-Z_]+=\S* )*(?:{_PROGRAMS}) )")


class Block(NamedTuple):
    """A block of commands."""

    page: str
    language: str
    """As the fence names it; empty: none, or an indented block."""
    text: str

    @property
    def begins(self) -> str:
        return self.text.partition("\n")[0]


def blocks() -> Iterator[Block]:
    """Every block of commands in docs/, decisions included."""
    for path in sorted(DOCS.rglob("*.md")):
        yield from blocks_of(path.relative_to(DOCS).as_posix(), path.read_text(encoding="utf-8"))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Those of one page."""
    for _, language, inside in _FENCE.findall(text):
        if language in _LANGUAGES or (language in ("", "text") and _COMMAND.search(inside)):
            yield Block(page, language, inside.strip("\n"))
    for inside in _INDENTED.findall(_FENCE.sub("", text)):
        if _COMMAND.search(inside):
            lines = inside.strip("\n").split("\n")
            indent = len(lines[0]) - len(lines[0].lstrip())
            yield Block(page, "", "\n".join(line[indent:] for line in lines).strip())


def begins_as(block: Block, listed: tuple[str, str]) -> bool:
    """Whether an entry of the lists is this block's."""
    page, beginning = listed
    return block.page == page and block.text.startswith(beginning)


def is_executed(block: Block) -> bool:
    """Whether a test executes it."""
    if block.language == "console" and block.page in EXECUTED:
        return True
    return stands_as_executed(block)


def stands_as_executed(block: Block) -> bool:
    """Whether it is one of those without output."""
    return any(begins_as(block, listed) for listed in EXECUTED_AS_THEY_STAND)


def why_not_executed(block: Block) -> str | None:
    """The reason that is listed, if there is one."""
    return next((why for listed, why in NOT_EXECUTED.items() if begins_as(block, listed)), None)


if __name__ == "__main__":
    for one in blocks():
        if not is_executed(one):
            why = why_not_executed(one) or "NO REASON IS LISTED"
            print(f"{one.page}: {one.begins}\n    not executed: {why}")
