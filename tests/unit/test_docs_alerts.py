"""docs/alerts.md is held to the code: its files of routes work, its tables are whole, its message is ours."""

import re
from datetime import datetime
from pathlib import Path

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter_sinks.alerts.command import example
from spendmeter_sinks.alerts.file import ROUTE_FIELDS, read_routes
from spendmeter_sinks.alerts.message import FIELDS, MessageContext, render
from spendmeter_sinks.watch.digest import digest_text
from tests.alerts import alert_about, webhook
from tests.unit.sinks.watch.test_digest import BERLIN, DAILY, REPORT

PAGE = (Path(__file__).parents[2] / "docs/alerts.md").read_text(encoding="utf-8")
FILES = re.findall(r"(?s)```yaml\n(.*?)```", PAGE)


@pytest.mark.parametrize("written", FILES)
def test_each_file_of_routes_on_the_page_works(written: str) -> None:
    assert read_routes(written, "docs/alerts.md", None)


def test_each_field_of_a_route_is_explained_and_no_other() -> None:
    section = PAGE.partition("## A route\n")[2].partition("\n## ")[0]
    columns = re.findall(r"(?m)^\| (`.*?) \|", section)

    assert sorted(name for column in columns for name in re.findall(r"`(\w+)`", column)) == sorted(
        ROUTE_FIELDS
    )


def test_each_field_of_a_template_is_named() -> None:
    [line] = re.findall(r"(?m)^The fields: (.*)$", PAGE)

    assert tuple(re.findall(r"`(\w+)`", line)) == FIELDS


def test_the_message_on_the_page_is_the_one_that_is_sent() -> None:
    budget, alert = example(AlertKind.EXCEEDED, datetime.fromisoformat("2026-11-20T12:00:00+00:00"))
    [address] = re.findall(r"browsers reach \[the page\].*?`(https://[^`]*)`", PAGE)
    message = render(webhook(""), alert, MessageContext(budget, page=address))

    [shown, *_] = re.findall(r"(?s)```text\n(.*?)```", PAGE)
    assert shown == f"{message.title}\n{message.text}\n"


def test_the_digest_on_the_page_is_what_is_sent() -> None:
    keys = [REPORT.largest["key"][0], REPORT.largest["key"][1]._replace(name="notebook")]
    text = digest_text(REPORT._replace(largest={**REPORT.largest, "key": keys}), DAILY, BERLIN)
    message = render(
        webhook(""),
        alert_about(AlertKind.DIGEST, text, team=REPORT.team),
        MessageContext(names={("team", REPORT.team): REPORT.name}),
    )

    assert f"```text\n{message.title}\n{message.text}\n```" in PAGE
