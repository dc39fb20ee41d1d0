"""Data that is shown: everything readable stays, nothing acts."""

import json
import logging

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from spendmeter.cli.printing import columns
from spendmeter.runtime.logs import _VisibleFormatter
from spendmeter.visible import one_line, visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [/x] :key: ünïcode 日本 💥", "plain [/x] :key: ünïcode 日本 💥"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\u202eabc\u200b", r"\u202eabc\u200b"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\udcff"),
        ("10\u00a0000\u3000", "10\u00a0000\u3000"),
    ],
)
def test_what_is_seen_stays_and_what_acts_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_json_says_the_same_as_before(text: str) -> None:
    written = visible_json(json.dumps({"a": [text]}, indent=2, ensure_ascii=False))

    assert json.loads(written) == {"a": [text]}
    assert visible(written, keep="\n") == written


def test_words_of_another_program_are_one_line() -> None:
    assert one_line(" a\n\n  b\x1b ") == r"a b\x1b"


def test_a_log_line_is_one_line_whatever_the_data() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "seen %s", ("a\n2026 ERROR forged\x1b[2J",), None)

    assert _VisibleFormatter("%(message)s").format(record) == r"seen a\n2026 ERROR forged\x1b[2J"


@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=30)] * 3), max_size=5),
    st.integers(8, 120),
)
def test_a_row_is_one_line_within_the_width_and_what_is_cut_says_so(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    headings = ("a", "b", "c")

    lines = list(columns(headings, rows, right=("b",), whole=("c",), width=width))
    whole = list(columns(headings, rows, right=("b",), whole=("c",)))

    assert len(lines) == len(whole) == len(rows) + 1
    assert all(cell_len(line) <= width for line in lines)
    for row, line, uncut in zip(rows, lines[1:], whole[1:], strict=True):
        assert all(visible(cell).rstrip() in uncut for cell in row)
        if max(map(cell_len, whole)) > width:
            continue
        assert line == uncut
    if lines != whole:
        assert "…" in "".join(lines)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (None, "a very long name  $0.000000001  01a22e25"),
        (40, "a very long name  $0.000000001  01a22e25"),
        (39, "a very long na…  $0.000000001  01a22e25"),
        (32, "a very …  $0.000000001  01a22e25"),
        (31, "a very l…  $0.00000…  01a22e25"),
    ],
)
def test_names_are_cut_before_amounts_and_ids(width: int | None, shown: str) -> None:
    row = ("a very long name", "$0.000000001", "01a22e25")

    _, line = columns(("name", "spent", "id"), [row], right=("spent",), whole=("id",), width=width)

    assert line == shown


def test_colours_are_of_the_first_word_and_move_nothing() -> None:
    rows = [("a", "exceeded, opening"), ("b", "\x1b[32mok"), ("c", "new")]
    plain = list(columns(("id", "state"), rows))

    coloured = list(columns(("id", "state"), rows, colours={"state": {"exceeded": "red", "a": "red"}}))

    assert coloured[1] == "a   \x1b[31mexceeded, opening\x1b[0m"
    assert coloured[2:] == plain[2:]
    assert click.unstyle("\n".join(coloured)) == "\n".join(plain)
