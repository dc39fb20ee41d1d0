"""Every block of commands in docs/ is executed by a test, or is listed with the reason why not."""

import pytest

from tests.docs_blocks import (
    EXECUTED,
    EXECUTED_AS_THEY_STAND,
    NOT_EXECUTED,
    ROOT,
    Block,
    begins_as,
    blocks,
    blocks_of,
    is_executed,
    why_not_executed,
)

BLOCKS = list(blocks())


def test_each_block_is_executed_or_has_a_reason_and_not_both() -> None:
    neither = [block for block in BLOCKS if not is_executed(block) and why_not_executed(block) is None]
    both = [block for block in BLOCKS if is_executed(block) and why_not_executed(block)]

    assert [f"{one.page}: {one.begins}" for one in neither] == [], (
        "execute it, or say why not (tests/docs_blocks.py)"
    )
    assert both == []


def test_no_entry_of_the_lists_is_of_a_block_that_is_gone() -> None:
    gone = [
        listed
        for listed in (*EXECUTED_AS_THEY_STAND, *NOT_EXECUTED)
        if not any(begins_as(block, listed) for block in BLOCKS)
    ]
    assert gone == []
    assert {
        page for page in EXECUTED if not any(b.page == page and b.language == "console" for b in BLOCKS)
    } == set()


@pytest.mark.parametrize("page", EXECUTED)
def test_the_test_that_executes_a_page_reads_it(page: str) -> None:
    assert page in (ROOT / EXECUTED[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "# A\n\n```console\n$ ls\n```\n",
        "# A\n\n```sh\nls\n```\n",
        "# A\n\n    spendmeter top\n    more\n\nB\n",
        "# A\n\n1. B\n\n        SPENDMETER_A=1 spendmeter top\n",
        "# A\n\n```text\n$ pip install x\n```\n",
    ],
)
def test_a_new_block_is_found(text: str) -> None:
    [block] = blocks_of("new.md", text)

    assert not is_executed(block)
    assert why_not_executed(block) is None


def test_what_is_no_command_is_no_block_of_commands() -> None:
    assert list(blocks_of("a.md", "    known spend = the latest signal\n\n```yaml\na: 1\n```\n")) == []
    assert isinstance(BLOCKS[0], Block)
