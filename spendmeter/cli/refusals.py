"""`spendmeter refusals`: who was refused, when and why."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import click

from spendmeter.cli.lists import Listing, Row, amounts, list_options, show_list
from spendmeter.cli.printing import STATES, clock, print_table
from spendmeter.contract.decision import Why
from spendmeter.history.lists import refusals_query


@click.command()
@list_options("--why", Why)
def refusals(listing: Listing) -> None:
    """Refused requests, newest first; `spendmeter explain DECISION` shows what one rests on."""
    show_list(listing, refusals_query, "no such refusal", _print)


def _print(rows: Sequence[Row], zone: ZoneInfo) -> None:
    headings = (f"when ({zone.key})", "why", "who", "budget", "whose", "spent of limit", "decision")
    print_table(
        headings,
        [
            (
                clock(row["decided_at"], zone),
                row["why"],
                row["name"],
                row["budget_id"] or "-",
                row["whose"] or "-",
                amounts(row),
                str(row["decision_id"]),
            )
            for row in rows
        ],
        whole=(headings[0], "why", "spent of limit", "decision"),
        spare=("whose",),
        below="decision",
        colours={"why": STATES},
    )
