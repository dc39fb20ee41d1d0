"""What a person reads: who, how much of what, since when, what happens next."""

import string
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.budget import Action, Budget
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter_sinks.alerts.message import (
    FIELDS,
    MAX_ALERTS_SHOWN,
    MessageContext,
    Severity,
    render,
    render_digest,
    usd,
    wrong_fields,
)
from tests.alerts import NOW, alert, alert_about, webhook
from tests.builders import budget

LINK = "https://spend.example.com/accounts/{account}"


def of(found: Alert, link: str = "", route: Any = None, reminder: int = 0, **fields: Any) -> tuple[str, str]:
    message = render(route or webhook(""), found, MessageContext(team_month(**fields), link), reminder)
    return message.title, message.text


def team_month(**fields: Any) -> Budget:
    return budget(
        id="team-month",
        match={"team": "*"},
        period="month",
        limit_nanousd=from_usd("50"),
        timezone="Europe/Berlin",
        **fields,
    )


def test_a_spent_budget() -> None:
    assert of(alert(at=NOW, spent="50.018273645"), LINK) == (
        "Budget spent: team research",
        "$50.01 of $50 (100 %) since Sun 1 Nov 00:00 CET\n"
        "Requests are refused until Tue 1 Dec 00:00 CET, or until the limit is raised\n"
        "budget team-month\n"
        "https://spend.example.com/accounts/team-month%7Cteam%3Dresearch",
    )


PAGE = "https://spend.example.com"


def links(kind: AlertKind = AlertKind.EXCEEDED, link: str = "", page: str = PAGE, **fields: Any) -> list[str]:
    """Of the account, of the form that raises, of the form that pauses."""
    context = MessageContext(team_month(**fields), link, page)
    message = render(webhook(""), alert(kind, at=NOW, spent="50"), context)
    assert [one for one in (message.link, message.raise_link) if one and one not in message.text] == []
    return [message.link, message.raise_link, message.pause_link]


def test_the_page_is_a_link_and_so_are_its_forms_filled_in() -> None:
    account = f"{PAGE}/budgets/team-month?account=team-month%7Cteam%3Dresearch"
    forms = [f"{PAGE}/budgets/team-month/raise?usd=10&for=window", f"{PAGE}/budgets/team-month/pause"]

    assert links() == links(AlertKind.THRESHOLD) == [account, *forms]
    assert links(link=LINK)[1:] == forms
    assert links(page="") == ["", "", ""]


def test_no_form_is_offered_where_it_would_change_nothing() -> None:
    assert links(AlertKind.RECOVERED)[1:] == ["", ""]
    assert links(paused=True)[1:] == ["", ""]
    assert links(action="warn")[1:] == ["", ""]


@pytest.mark.parametrize(
    ("limit_nanousd", "more"),
    [
        (1, "0.000000001"),
        (7, "0.000000001"),
        (49_999_999, "0.009999999"),
        (50_000_000, "0.01"),
        (99_999_999_999, "19.99"),
    ],
)
def test_the_raise_that_is_offered_is_a_fifth_in_whole_cents(limit_nanousd: int, more: str) -> None:
    found = alert(at=NOW, spent="50")
    assert found.signal is not None
    small = found.signal.model_copy(update={"limit_nanousd": NanoUsd(limit_nanousd), "window_end": None})
    message = render(
        webhook(""), found.model_copy(update={"signal": small}), MessageContext(team_month(), page=PAGE)
    )

    assert message.raise_link == f"{PAGE}/budgets/team-month/raise?usd={more}&for=1d"


def test_a_threshold() -> None:
    assert of(alert(AlertKind.THRESHOLD, at=NOW, spent="40")) == (
        "80 % spent: team research",
        "$40 of $50 (80 %) since Sun 1 Nov 00:00 CET\n"
        "At $50 requests are refused, until Tue 1 Dec 00:00 CET\n"
        "budget team-month",
    )


def test_a_recovery() -> None:
    title, text = of(alert(AlertKind.RECOVERED, at=NOW, spent="0"))

    assert title == "Below its budget again: team research"
    assert text.splitlines()[:2] == [
        "$0 of $50 (0 %) since Sun 1 Nov 00:00 CET",
        "Requests are served again",
    ]


def test_a_forecast() -> None:
    title, text = of(alert(AlertKind.FORECAST, at=NOW, spent="30"))

    assert title == "Budget runs out early: team research"
    assert text.splitlines()[1] == (
        "At this rate it is spent by Thu 26 Nov 00:00 CET; the window ends Tue 1 Dec 00:00 CET"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"paused": True}, "Nothing is refused by this budget: it is paused"),
        ({"action": Action.WARN}, "Nothing is refused by this budget: its action is warn"),
    ],
)
def test_nobody_is_refused_by_a_budget_that_does_not(fields: Any, said: str) -> None:
    assert of(alert(at=NOW), **fields)[1].splitlines()[1] == said
    assert of(alert(AlertKind.THRESHOLD, at=NOW, spent="40"), **fields)[1].splitlines()[1] == said
    assert "served" not in of(alert(AlertKind.RECOVERED, at=NOW), **fields)[1]


def test_a_lifetime_has_no_end_and_a_budget_that_is_gone_no_future() -> None:
    lifetime = alert(at=NOW, window=None)

    assert "Requests are refused until the limit is raised\n" in of(lifetime)[1]
    gone = render(webhook(""), alert(at=NOW), MessageContext())
    assert gone.text == "$50 of $50 (100 %) since Sat 31 Oct 23:00 UTC\nbudget team-month"


def test_a_key_is_shown_by_the_beginning_of_its_hash_and_everything_as_everything() -> None:
    key = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

    assert of(alert(at=NOW, key=key))[0] == "Budget spent: key 9f86d081…"
    found = alert(at=NOW)
    assert found.signal is not None
    everything = found.model_copy(update={"signal": found.signal.model_copy(update={"subject": {}})})
    assert of(everything)[0] == "Budget spent: everything"


def named(found: Alert, route: Any = None, **names: str) -> tuple[str, str]:
    assert found.signal is not None
    known = {(d, id_): names[d] for d, id_ in found.signal.subject.items() if d in names}
    message = render(route or webhook(""), found, MessageContext(team_month(), names=known))
    return message.title, message.text


def test_what_has_a_name_is_called_by_it_and_its_id_stands_below() -> None:
    key = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

    title, text = named(alert(at=NOW, key=key, team="t1"), key="ann's notebook")
    assert title == "Budget spent: key ann's notebook, team t1"
    assert text.splitlines()[-2:] == ["budget team-month", "key 9f86d081…, team t1"]
    assert named(alert(at=NOW, key=key)) == of(alert(at=NOW, key=key))
    forged = named(alert(at=NOW), team="a\nBudget raised\x1b[2J{limit}")
    assert forged[0] == "Budget spent: team a Budget raised\\x1b[2J{limit}"
    assert len(forged[1].splitlines()) == 4


def test_a_template_may_name_ids_and_names() -> None:
    route = webhook("", title="{who}|{team}|{team_name}|{key_name}|{ids}", template="{message}")
    found = alert(at=NOW, message="team-month: team research has spent its budget")

    assert named(found, route, team="Search & Ads") == (
        "team Search & Ads|research|Search & Ads||team research",
        "team-month: team Search & Ads has spent its budget",
    )
    assert named(found, route)[0] == "team research|research|research||"


def test_what_concerns_no_account_says_its_own_message() -> None:
    found = alert(AlertKind.UNPRICED, at=NOW, signal=False, message="gpt-9 has no price")

    assert of(found) == ("spendmeter: unpriced", "gpt-9 has no price")


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (AlertKind.ANOMALY, "Unusual spend: team Search"),
        (AlertKind.UNUSED, "Not used any more: team Search"),
        (AlertKind.DIGEST, "Spend: team Search"),
    ],
)
def test_what_is_of_somebody_without_an_account_says_who_and_links_to_their_spend(
    kind: AlertKind, title: str
) -> None:
    names = {("team", "research"): "Search"}
    message = render(
        webhook(""), alert_about(kind, "$5 today", team="research"), MessageContext(page=PAGE, names=names)
    )

    link = f"{PAGE}/explore?team=research&by=model&by=key"
    assert (message.title, message.text) == (title, f"$5 today\nteam research\n{link}")
    assert message.link == link


def test_what_is_of_everything_says_so_and_what_is_of_several_keys_names_none() -> None:
    def title(kind: AlertKind) -> str:
        return render(webhook(""), alert_about(kind, "x"), MessageContext()).title

    assert title(AlertKind.ANOMALY) == "Unusual spend: everything"
    assert title(AlertKind.DIGEST) == "Spend: everything"
    assert title(AlertKind.UNUSED) == "spendmeter: unused"


def test_a_digest_of_spend_has_its_lines_and_data_forges_none() -> None:
    said = "team a spent $5\nkeys: b\x1b[2J $3\r\nmodels: gpt-4o $5"

    assert of(alert_about(AlertKind.DIGEST, said, team="a"))[1].splitlines() == [
        "team a spent $5",
        "keys: b\\x1b[2J $3",
        "models: gpt-4o $5",
    ]
    assert of(alert_about(AlertKind.ANOMALY, "a\nb", team="a"))[1] == "a b"


def test_a_template_has_whom_an_alert_without_an_account_is_about() -> None:
    route = webhook("", title="{who}|{team}|{team_name}|{budget}", template="{message}")

    assert of(alert_about(AlertKind.UNUSED, "x", team="research"), route=route)[0] == (
        "team research|research|research|"
    )


def test_what_is_in_data_forges_no_line() -> None:
    title, text = of(alert(at=NOW, team="a\nBudget raised\x1b[2J"))

    assert title == "Budget spent: team a Budget raised\\x1b[2J"
    assert len(text.splitlines()) == 3


def test_a_reminder_says_which_it_is_and_has_an_id_of_its_own() -> None:
    found = alert(at=NOW)
    message = render(webhook(""), found, MessageContext(team_month()), 2)

    assert message.title == "Still so, reminder 2: Budget spent: team research"
    assert message.id == f"{found.alert_id}.2"


def test_a_template_of_ones_own_and_its_empty_lines_left_out() -> None:
    route = webhook("", title="{team}: {share}", template="{link}\n{spent} {{of}} {limit}\n\nsee the wiki")

    assert of(alert(at=NOW), route=route) == ("research: 100 %", "$50 {of} $50\n\nsee the wiki")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{whoo}", "there is no field {whoo}; did you mean who?"),
        ("{who.__class__}", "there is no field {who.__class__}"),
        ("{who[0]}", "there is no field {who[0]}"),
        ("{}", "there is no field {}"),
        ("{who!r}", "{who} stands alone"),
        ("{who:>999999999}", "{who} stands alone"),
        ("{who", "a brace that is meant as one is written twice"),
    ],
)
def test_a_bad_template_is_refused_with_what_is_wrong(template: str, said: str) -> None:
    [wrong] = wrong_fields(template)

    assert said in wrong


@given(st.lists(st.one_of(st.sampled_from([f"{{{name}}}" for name in FIELDS]), st.text(string.printable))))
def test_a_template_without_a_finding_can_be_filled(parts: list[str]) -> None:
    template = "".join(parts)
    if not wrong_fields(template):
        for kind in (AlertKind.EXCEEDED, AlertKind.UNPRICED):
            found = alert(kind, at=NOW, signal=kind is AlertKind.EXCEEDED)
            render(webhook("", template=template), found, MessageContext(team_month()))


def test_a_digest_has_a_line_each_the_most_urgent_first() -> None:
    alerts = [
        alert(AlertKind.RECOVERED, at=NOW, team="a", spent="0"),
        alert(AlertKind.THRESHOLD, at=NOW, team="b", spent="40"),
        alert(AlertKind.EXCEEDED, at=NOW, team="c"),
    ]
    messages = [render(webhook(""), one, MessageContext(team_month())) for one in alerts]
    digest = render_digest(webhook(""), messages)

    assert digest.title == "3 alerts, first: Budget spent: team c"
    assert digest.text.splitlines() == [
        "- Budget spent: team c: $50 of $50 (100 %) since Sun 1 Nov 00:00 CET",
        "- 80 % spent: team b: $40 of $50 (80 %) since Sun 1 Nov 00:00 CET",
        "- Below its budget again: team a: $0 of $50 (0 %) since Sun 1 Nov 00:00 CET",
    ]
    assert digest.severity is Severity.CRITICAL
    assert digest.alerts == tuple(alerts)
    assert render_digest(webhook(""), messages[::-1]).id == digest.id
    assert render_digest(webhook(""), messages[:2]).id != digest.id
    assert render_digest(webhook(""), messages[:1]) == messages[0]


def test_a_digest_of_very_many_says_how_many_more() -> None:
    alerts = [alert(at=NOW, number=n) for n in range(MAX_ALERTS_SHOWN + 3)]
    digest = render_digest(webhook(""), [render(webhook(""), one, MessageContext()) for one in alerts])

    assert digest.text.splitlines()[-1] == "and 3 more: spendmeter alerts log --route hook"


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (0, "$0"),
        (1, "$0.000000001"),
        (1_234_567, "$0.0012"),
        (500_000, "$0.0005"),
        (999_999_999, "$0.99"),
        (1_000_000_000, "$1"),
        (1_500_000_000, "$1.50"),
        (49_999_999_999, "$49.99"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (-1_500_000_000, "-$1.50"),
    ],
)
def test_amounts_are_read_at_a_glance_and_never_rounded_up(nanousd: int, shown: str) -> None:
    assert usd(NanoUsd(nanousd)) == shown


def test_a_message_fits_three_seconds() -> None:
    """About fifty words: what a person reads at 250 words a minute in twelve seconds is too long."""
    for kind in (AlertKind.THRESHOLD, AlertKind.EXCEEDED, AlertKind.RECOVERED, AlertKind.FORECAST):
        title, text = of(alert(kind, at=NOW + timedelta(days=1)))
        assert len(title) <= 60
        assert len(text.splitlines()) <= 4
        assert len((title + text).split()) <= 45
