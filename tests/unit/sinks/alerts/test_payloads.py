"""What goes over the wire, judged by others: the Standard Webhooks library, LiteLLM's own model."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from litellm.proxy._types import WebhookEvent
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.history.names import EMAIL
from spendmeter_sinks.alerts import payloads
from spendmeter_sinks.alerts.message import MessageContext, render, render_digest
from spendmeter_sinks.alerts.routes import Service, Target
from tests.alerts import NOW, SECRET, alert, alert_about, webhook

KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def target(service: Service = Service.WEBHOOK, secret: str | None = SECRET) -> Target:
    return Target(service, SecretStr("http://127.0.0.1:1"), SecretStr(secret) if secret else None)


def litellm(found: Alert) -> dict[str, Any]:
    call = payloads.litellm(render(webhook(""), found, MessageContext()), target(Service.LITELLM), NOW)
    value: dict[str, Any] = json.loads(call.body)
    return value


def test_a_signature_is_believed_and_one_of_another_body_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import standardwebhooks.webhooks as library

    class At(library.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW.astimezone(tz)

    monkeypatch.setattr(library, "datetime", At)
    call = payloads.webhook(render(webhook(""), alert(at=NOW), MessageContext()), target(), NOW)

    assert Webhook(SECRET).verify(call.body, dict(call.headers)) == json.loads(call.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(call.body + b" ", dict(call.headers))


def test_without_a_secret_nothing_is_signed() -> None:
    call = payloads.webhook(render(webhook(""), alert(at=NOW), MessageContext()), target(secret=None), NOW)

    assert "webhook-signature" not in call.headers


@pytest.mark.parametrize(("size", "is_key"), [(23, False), (24, True), (64, True), (65, False)])
def test_a_secret_has_the_bytes_that_the_specification_wants(size: int, is_key: bool) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * size).decode()
    if is_key:
        assert payloads.signing_key(secret) == b"k" * size
    else:
        with pytest.raises(ValueError, match="openssl rand -base64 32") as error:
            payloads.signing_key(secret)
        assert secret[6:] not in str(error.value)


def test_a_digest_has_all_its_alerts() -> None:
    alerts = [alert(at=NOW, number=n) for n in range(3)]
    digest = render_digest(webhook(""), [render(webhook(""), one, MessageContext()) for one in alerts])
    call = payloads.webhook(digest, target(), NOW)

    body = json.loads(call.body)
    assert body["type"] == "spend.alerts"
    assert [one["alert_id"] for one in body["data"]["alerts"]] == [str(one.alert_id) for one in alerts]
    assert call.headers["webhook-id"] == digest.id


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (AlertKind.EXCEEDED, "budget_crossed"),
        (AlertKind.THRESHOLD, "threshold_crossed"),
        (AlertKind.FORECAST, "projected_limit_exceeded"),
    ],
)
def test_litellms_own_model_reads_what_its_receivers_get(kind: AlertKind, event: str) -> None:
    sent = litellm(alert(kind, at=NOW, spent="40.5", key=KEY))
    read = WebhookEvent.model_validate(sent)

    assert read.event == event
    assert (read.spend, read.max_budget, read.token) == (40.5, 50.0, KEY)
    # Neither a field too few nor one that LiteLLM does not send.
    assert set(sent) == set(json.loads(read.model_dump_json()))
    assert json.loads(read.model_dump_json()) == sent


@pytest.mark.parametrize(
    ("subject", "group", "field"),
    [
        ({"team": "t"}, "team", "team_id"),
        ({"user": "u"}, "user", "user_id"),
        ({"user": "u", "team": "t"}, "team_member", "user_id"),
        ({"end_user": "c"}, "end_user", "customer_id"),
        ({"organization": "o"}, "organization", "organization_id"),
        ({"key": KEY, "team": "t"}, "key", "token"),
        ({"model": "gpt-4o"}, "user", "user_id"),
    ],
)
def test_whose_budget_it_is_in_litellms_words(subject: Any, group: str, field: str) -> None:
    sent = litellm(alert(at=NOW, **subject))

    assert sent["event_group"] == group
    assert sent[field] == next((v for v in subject.values() if v != "gpt-4o"), None)


def test_names_are_where_litellms_receivers_expect_them() -> None:
    names = {
        ("key", KEY): "ann's notebook",
        ("team", "t"): "Search",
        ("user", "u"): "Ann",
        (EMAIL, "u"): "ann@x",
    }
    message = render(webhook(""), alert(at=NOW, key=KEY, team="t", user="u"), MessageContext(names=names))
    sent = json.loads(payloads.litellm(message, target(Service.LITELLM), NOW).body)

    read = WebhookEvent.model_validate(sent)
    assert (read.key_alias, read.team_alias, read.user_email) == ("ann's notebook", "Search", "ann@x")
    assert (read.token, read.team_id, read.user_id) == (KEY, "t", "u")
    assert sent["event_message"].startswith("Budget spent: key ann's notebook, team Search, user Ann\n")


def test_alertmanagers_labels_are_ids_whatever_they_are_called() -> None:
    posted = []
    for names in ({}, {("team", "research"): "Search"}, {("team", "research"): "Search & Ads"}):
        call = payloads.alertmanager(
            render(webhook(""), alert(at=NOW), MessageContext(names=names)), target()
        )
        posted += json.loads(call.body)

    assert posted[0]["labels"] == posted[1]["labels"] == posted[2]["labels"]
    assert posted[1]["annotations"]["summary"] == "Budget spent: team Search"


@pytest.mark.parametrize("kind", [AlertKind.RECOVERED, AlertKind.DOUBTED])
def test_what_litellm_has_no_event_for_is_not_sent(kind: AlertKind) -> None:
    with pytest.raises(payloads.NoPayload, match=f"no event for {kind}"):
        litellm(alert(kind, at=NOW))


@pytest.mark.parametrize("kind", [AlertKind.ANOMALY, AlertKind.UNUSED, AlertKind.DIGEST])
def test_litellms_webhook_has_no_event_for_what_has_no_account(kind: AlertKind) -> None:
    with pytest.raises(payloads.NoPayload, match=f"no event for {kind}"):
        litellm(alert_about(kind, "x", team="research"))


def test_our_webhook_has_whom_an_alert_without_an_account_is_about() -> None:
    message = render(webhook(""), alert_about(AlertKind.DIGEST, "a\nb", team="t"), MessageContext())
    body = json.loads(payloads.webhook(message, target(), NOW).body)

    assert body["type"] == "spend.alert.digest"
    assert body["data"]["text"] == "a\nb"
    assert body["data"]["alerts"][0]["subject"] == {"team": "t"}


def test_alertmanager_has_whom_an_alert_without_an_account_is_about_and_no_digest() -> None:
    found = [
        alert_about(AlertKind.ANOMALY, "much", team="research"),
        alert_about(AlertKind.UNUSED, "not used", key="k1", team="research"),
        alert_about(AlertKind.DIGEST, "spent", team="research"),
    ]
    messages = [render(webhook(""), one, MessageContext()) for one in found]

    posted = json.loads(payloads.alertmanager(render_digest(webhook(""), messages), target()).body)
    assert [one["labels"] for one in posted] == [
        {
            "alertname": "SpendmeterBudgetAnomaly",
            "kind": "anomaly",
            "severity": "warning",
            "team": "research",
        },
        {
            "alertname": "SpendmeterBudgetUnused",
            "kind": "unused",
            "severity": "info",
            "key": "k1",
            "team": "research",
        },
    ]
    with pytest.raises(payloads.NoPayload, match="digest"):
        payloads.alertmanager(messages[2], target())


def test_alertmanager_has_a_recovery_end_what_was_exceeded() -> None:
    later = NOW + timedelta(minutes=5)
    posted = []
    for found in (alert(at=NOW), alert(AlertKind.RECOVERED, at=later, spent="0")):
        message = render(webhook(""), found, MessageContext(link="https://spend.example.com/{budget}"))
        call = payloads.alertmanager(message, target(Service.ALERTMANAGER, "token"))
        assert call.path == "/api/v2/alerts"
        assert call.headers["authorization"] == "Bearer token"
        posted += json.loads(call.body)
    exceeded, recovered = posted

    assert exceeded["labels"] == recovered["labels"]
    assert exceeded["labels"] == {
        "alertname": "SpendmeterBudgetExceeded",
        "kind": "exceeded",
        "severity": "critical",
        "budget": "team-month",
        "account": "team-month|team=research",
        "team": "research",
    }
    assert exceeded["startsAt"] < exceeded["endsAt"] == "2026-11-30T23:00:00.000000Z"
    assert recovered["endsAt"] == recovered["startsAt"]
    assert exceeded["generatorURL"] == "https://spend.example.com/team-month"
    assert exceeded["annotations"]["summary"] == "Budget spent: team research"
