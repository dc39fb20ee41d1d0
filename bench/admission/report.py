"""The comparison as a Markdown table and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.admission.verdict import Cell

HEADER = (
    "| clients | `max_tokens` | budgets by | served | shortened | refused | below the limit | would have fit"
    " | beside all running | no room | overspend max | mean | spent mean |"
)
NOTES = """
Of the refusals: *below the limit*, while the calls that the upstream had completed cost less than the limit;
*would have fit*, of those, where they and the refused request at its real cost were within the limit;
*beside all running*, of those, where so it was with every request that was running at that moment.
The upstream is asked right after a refusal has arrived; what completed in between counts as spent.
*No room*: below the limit, but the rest did not pay for the prompt and 16 tokens beside all that was running.
*Shortened*: served with fewer tokens than the model would have said, because `max_tokens` was lowered to
what is left. *Spent*: of the limit, when all had ended.
"""


def table(cells: Sequence[Cell]) -> str:
    """The rows in the order of the question, contenders beside one another."""
    ordered = sorted(cells, key=lambda cell: (cell.max_tokens, cell.clients))
    return "\n".join([HEADER, "|" + "---|" * (HEADER.count("|") - 1), *map(_row, ordered)])


def _row(cell: Cell) -> str:
    failed = f" (+ {cell.failed} failed)" if cell.failed else ""
    most = f"${cell.overspend_max_nanousd / 1e9:.6f}, {cell.overspend_max_percent:.1f} %"
    return (
        f"| {cell.clients} | {'yes' if cell.max_tokens else 'no'} | {cell.contender} | {cell.served}{failed}"
        f" | {cell.shortened} | {cell.refused} | {cell.below_limit} | {cell.would_fit}"
        f" | {cell.would_fit_beside_running} | {cell.no_room} | {most} | {cell.overspend_mean_percent:.1f} %"
        f" | {cell.spent_mean_percent:.1f} % |"
    )


def document(
    cells: Sequence[Cell], machine: Sequence[str], arguments: Mapping[str, Any], absent: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that was measured and with what."""
    return {
        "machine": list(machine),
        "arguments": dict(arguments),
        "absent": dict(absent),
        "cells": [cell.as_dict() for cell in cells],
    }
