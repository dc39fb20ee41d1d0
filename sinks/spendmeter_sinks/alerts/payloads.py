"""Messages as receivers of HTTP want them: Standard Webhooks, LiteLLM's webhook, Alertmanager. Pure.

Sources: the Standard Webhooks specification 1.0.0; `WebhookEvent` of LiteLLM's proxy;
Alertmanager's API v2 (`postableAlerts`).
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import to_usd
from spendmeter.contract.signal import Signal
from spendmeter.history.names import EMAIL
from spendmeter.values.times import format_time
from spendmeter_sinks.alerts.message import Message, Severity, severity
from spendmeter_sinks.alerts.routes import Target

_SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""As the specification wants them."""
FIRES_FOR = timedelta(days=1)
"""At Alertmanager, of an alert whose window has no end."""
_LITELLM_EVENTS = {
    AlertKind.EXCEEDED: "budget_crossed",
    AlertKind.THRESHOLD: "threshold_crossed",
    AlertKind.FORECAST: "projected_limit_exceeded",
}
# The narrowest first: what LiteLLM calls the budget of several is that of the narrowest.
_LITELLM_GROUPS = ("key", "user", "end_user", "project", "tag", "team", "organization")


class HttpCall(NamedTuple):
    """One POST."""

    path: str
    """Behind the receiver's URL."""
    headers: Mapping[str, str]
    body: bytes


class NoPayload(Exception):
    """The receiver's service has no word for this alert; the message says which."""


def signing_key(secret: str) -> bytes:
    """The key in a webhook's secret, `whsec_…` in base64. Raises ValueError, without a word of it."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"holds no secret of a webhook, which is {_SECRET_PREFIX} and {MIN_SECRET_BYTES} to"
            f' {MAX_SECRET_BYTES} bytes in base64; make one: echo "whsec_$(openssl rand -base64 32)"'
        )
    return key


def webhook(message: Message, target: Target, now: datetime) -> HttpCall:
    """A Standard Webhooks call."""
    [alert, *others] = message.alerts
    data = {
        "title": message.title,
        "text": message.text,
        "link": message.link,
        "raise_link": message.raise_link,
        "pause_link": message.pause_link,
        "reminder": message.reminder,
        "alerts": [one.model_dump(mode="json") for one in message.alerts],
    }
    kind = "spend.alerts" if others else f"spend.alert.{alert.kind}"
    body = _json({"type": kind, "timestamp": format_time(alert.emitted_at), "data": data})
    return HttpCall("", _signed(message.id, body, target, now), body)


def litellm(message: Message, target: Target, now: datetime) -> HttpCall:
    """A call with the fields of LiteLLM's `WebhookEvent`; signed like the other where it has a secret.

    Raises:
        NoPayload: LiteLLM has no such event.
    """
    [alert] = message.alerts
    event, signal = _LITELLM_EVENTS.get(alert.kind), alert.signal
    if event is None or signal is None:
        raise NoPayload(f"LiteLLM's webhook has no event for {alert.kind}")
    body = _json(_litellm_event(event, message, signal))
    return HttpCall("", _signed(message.id, body, target, now), body)


def alertmanager(message: Message, target: Target) -> HttpCall:
    """A POST of all alerts of the message to /api/v2/alerts.

    Raises:
        NoPayload: there are none but digests, of which nothing has happened.
    """
    headers = {"content-type": "application/json"}
    if target.secret is not None:
        headers["authorization"] = f"Bearer {target.secret.get_secret_value()}"
    posted = [_postable(alert, message) for alert in message.alerts if alert.kind is not AlertKind.DIGEST]
    if not posted:
        raise NoPayload("Alertmanager has no alert for a digest of spend")
    return HttpCall("/api/v2/alerts", headers, _json(posted))


def _signed(message_id: str, body: bytes, target: Target, now: datetime) -> dict[str, str]:
    timestamp = str(int(now.timestamp()))
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
    }
    if target.secret is not None:
        key = signing_key(target.secret.get_secret_value())
        signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers


def _litellm_event(event: str, message: Message, signal: Signal) -> dict[str, Any]:
    of, names = signal.subject, message.names
    groups = [group for group in _LITELLM_GROUPS if group in of]
    group = "team_member" if {"user", "team"} <= set(groups) and "key" not in groups else None
    ahead = signal.forecast_exhausted_at
    return {
        "spend": float(to_usd(signal.spent_nanousd)),
        "max_budget": float(to_usd(signal.limit_nanousd)),
        "soft_budget": None,
        "token": of.get("key"),
        "customer_id": of.get("end_user"),
        "user_id": of.get("user"),
        "team_id": of.get("team"),
        "team_alias": names.get(("team", of.get("team", ""))),
        "organization_id": of.get("organization"),
        "user_email": names.get((EMAIL, of.get("user", ""))),
        "key_alias": names.get(("key", of.get("key", ""))),
        "projected_exceeded_date": ahead.astimezone(UTC).date().isoformat() if ahead else None,
        "projected_spend": None,
        # LiteLLM says `user` of the whole proxy's budget, too.
        "event_group": group or (groups[0] if groups else "user"),
        "alert_emails": None,
        "max_budget_alert_emails": None,
        "event": event,
        "event_message": f"{message.title}\n{message.text}",
    }


def _postable(alert: Alert, message: Message) -> dict[str, Any]:
    """What recovers has the labels of what was exceeded, and ends it."""
    signal = alert.signal
    recovered = alert.kind is AlertKind.RECOVERED
    kind = AlertKind.EXCEEDED if recovered else alert.kind
    labels = {"alertname": f"SpendmeterBudget{kind.title().replace('_', '')}", "kind": str(kind)}
    labels["severity"] = str(Severity.CRITICAL if recovered else severity(alert))
    labels |= alert.concerns
    ends = alert.emitted_at + FIRES_FOR
    if signal is not None:
        labels |= {"budget": signal.budget_id, "account": signal.account}
        ends = signal.window_end or ends
    forms = {"raise_link": message.raise_link, "pause_link": message.pause_link}
    posted = {
        "labels": labels,
        "annotations": {
            "summary": message.title,
            "description": message.text,
            **{name: link for name, link in forms.items() if link},
        },
        "startsAt": format_time(alert.emitted_at),
        "endsAt": format_time(alert.emitted_at if recovered else ends),
    }
    return {**posted, "generatorURL": message.link} if message.link else posted


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
