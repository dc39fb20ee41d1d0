"""The file of routes: read whole, or every problem at once with its line and its fix; secrets never shown."""

from datetime import time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.money import from_usd
from spendmeter_sinks.alerts.file import InvalidRoutes, Secrets, read_routes
from spendmeter_sinks.alerts.receivers import what_is_wrong_with
from spendmeter_sinks.alerts.routes import (
    MAX_ROUTES,
    AlertMatch,
    Quiet,
    Reminders,
    Route,
    Service,
    Target,
)
from tests.alerts import SECRET

HOOK = "https://hooks.example.com/T0/B0/very-secret"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
ENVIRONMENT = {"HOOK": HOOK, "SECRET": SECRET, "SLACK": SLACK}
HEAD = "routes:\n"


def read(written: str, **environment: str) -> list[Route]:
    return read_routes(written, "alerts.yaml", Secrets({**ENVIRONMENT, **environment}, what_is_wrong_with))


def wrong(written: str, **environment: str) -> list[str]:
    with pytest.raises(InvalidRoutes) as refused:
        read(written, **environment)
    said = str(refused.value)
    for secret in (*ENVIRONMENT.values(), *environment.values()):
        assert secret not in said
    return said.splitlines()


def one(options: str) -> str:
    """A file of one route with these options."""
    return f"{HEAD}  - name: a\n    to: {{webhook: {{url_env: HOOK}}}}\n    {options}\n"


def test_a_whole_route(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    everything, last = read(
        f"""
routes:
  - name: research-slack
    match:
      kind: [threshold, exceeded]
      budget: "team-*"
      team: [research, ranking]
      share: 0.8
      amount_usd: "100"
    continue: true
    title: "{{who}}"
    template: |
      {{spent}} of {{limit}}
    digest: 1h
    quiet: {{from: "22:00", to: "07:00", timezone: Europe/Berlin, except: exceeded}}
    remind: {{every: 4h, at_most: 3}}
    max_age: 1w
    to: {{apprise: {{url_env: SLACK}}}}
  - name: last
    to: {{alertmanager: {{url: "http://alertmanager:9093", token_file: {tmp_path}/token}}}}
"""
    )

    assert everything == Route(
        "research-slack",
        Target(Service.APPRISE, SecretStr(SLACK), None, "SLACK"),
        AlertMatch(
            frozenset({AlertKind.THRESHOLD, AlertKind.EXCEEDED}),
            ("team-*",),
            {"team": ("research", "ranking")},
            0.8,
            from_usd("100"),
        ),
        goes_on=True,
        title="{who}",
        template="{spent} of {limit}\n",
        digest=timedelta(hours=1),
        quiet=Quiet(time(22), time(7), ZoneInfo("Europe/Berlin"), frozenset({AlertKind.EXCEEDED})),
        reminders=Reminders(timedelta(hours=4), 3),
        max_age=timedelta(days=7),
    )
    url = "http://alertmanager:9093"
    assert last == Route("last", Target(Service.ALERTMANAGER, SecretStr(url), SecretStr("t0ken"), url))


def test_litellms_format_is_a_service_of_its_own() -> None:
    [route] = read(
        HEAD + "  - {name: a, to: {webhook: {url_env: HOOK, format: litellm, secret_env: SECRET}}}"
    )

    assert route.target == Target(Service.LITELLM, SecretStr(HOOK), SecretStr(SECRET), "HOOK")
    assert HOOK not in repr(route)
    assert SECRET not in repr(route)


def test_every_problem_is_said_at_once_with_its_line() -> None:
    said = wrong(
        """routes:
  - name: a b
    to: {webhook: {url_env: NOT_SET, secret_env: BAD}}
  - name: x
    mtach: {}
    match: {kind: exceed, teem: x, share: many, amount_usd: "-1"}
    to: {webhook: {url: "https://ann:pw@example.com"}}
  - name: x
    match: {kind: exceeded}
    template: "{whoo}"
    quiet: {from: "7:00", to: "08:00", timezone: Berlin}
    to: {apprise: {url_env: SLACK, url_file: /no/such/file}}
""",
        BAD="whsec_short",
    )

    assert [line.split(": ")[0] for line in said] == [
        f"alerts.yaml:{line}" for line in (2, 3, 3, 5, 6, 6, 6, 6, 7, 10, 11, 11, 12)
    ]
    together = "\n".join(said)
    for part in (
        "name: 'a b': use 1 to 60 of A-Z",
        "to.webhook.url_env: NOT_SET is not set; set it in the relay's environment",
        "to.webhook: BAD holds no secret of a webhook",
        "a route has no field 'mtach'; did you mean match?",
        "match.kind: 'exceed' is not known; did you mean exceeded?",
        "match has no field 'teem'; did you mean team?",
        "match.share: 'many' is no fraction such as 0.8",
        "match.amount_usd: -1 USD is not above 0",
        "to.webhook.url: has a password or a query in it",
        "template: there is no field {whoo}; did you mean who?",
        "quiet.from: '7:00' is no time of day",
        "quiet.timezone: 'Berlin' is no time zone; did you mean Europe/Berlin?",
        "to.apprise: give url_env or another, not both",
    ):
        assert part in together


@pytest.mark.parametrize(
    ("written", "line", "said"),
    [
        ("", 1, "there are no routes; begin with `routes:`"),
        ("routes: []", 1, "there are no routes, so nothing would be sent; add one"),
        ("routes: {}", 1, "routes is a list"),
        ("routes: [", 1, "this is no YAML"),
        (HEAD + "  - {name: a}", 2, "to is missing: one receiver, such as {webhook:"),
        (HEAD + "  - to: {webhook: {url_env: HOOK}}", 2, "name is missing"),
        (HEAD + "  - {name: a, to: {}}", 2, "names one receiver, webhook or alertmanager or apprise"),
        (HEAD + "  - {name: a, to: {slack: {}}}", 2, "to has no field 'slack'"),
        (HEAD + "  - {name: a, to: {webhook: {}}}", 2, "to.webhook has no URL: give url_env or url_file"),
        (HEAD + "  - {name: a, to: {apprise: {url: x}}}", 2, "to.apprise has no field 'url'"),
        (HEAD + "  - {name: a, to: {webhook: {url_env: SECRET}}}", 2, "SECRET is no URL with a host"),
        (HEAD + "  - {name: a, to: {apprise: {url_env: HOOK}}}", 2, "own use `webhook`"),
        (HEAD + "  - {name: a, to: {webhook: {url_file: /no/such/file}}}", 2, "cannot be read: No such file"),
        (one("digest: 1x"), 4, "digest: '1x' is no span of time; write 90s, 30m, 2h, 3d or 1w"),
        (one("digest: 0m"), 4, "digest: '0m' is no span of time"),
        (one("max_age: 36d"), 4, "max_age: 36d is more than 35 days, after which alerts are gone"),
        (one("remind: {every: 59s}"), 4, "remind.every: is less than a minute"),
        (one("remind: {at_most: 3}"), 4, "remind: has no `every`"),
        (one("remind: {every: 1h, at_most: 0}"), 4, "remind.at_most: '0' is no number from 1 to 1000"),
        (one('quiet: {from: "07:00", to: "07:00", timezone: UTC}'), 4, "that is the whole day"),
        (one("quiet: {}"), 4, 'quiet.from is missing: "22:00"'),
        (one("match: {share: 0}"), 4, "match.share: 0.0 is no share of a limit, such as 0.8"),
        (one("match: {team: ''}"), 4, "match.team: is empty"),
        (one("continue: perhaps"), 4, "continue: 'perhaps' is not known"),
        (one('title: "a\\nb"'), 4, "title: is one line"),
        (one("after: 1h\n    digest: 1h"), 5, "digest: a route that waits (`after`) has none"),
        (one("after: 1h\n    match: {kind: recovered}"), 4, "after: what recovers does not escalate"),
        (
            HEAD + "  - {name: a, digest: 1h, to: {webhook: {url_env: HOOK, format: litellm}}}",
            2,
            "digest: LiteLLM's webhook has one event a call",
        ),
        (
            one("") + "  - {name: b, to: {webhook: {url_env: HOOK}}}",
            5,
            "no alert comes as far as this: route a has all of them",
        ),
        (
            HEAD + "  - {name: a, to: {webhook: {url_env: HOOK}}}\n" * (MAX_ROUTES + 1),
            MAX_ROUTES + 2,
            f"there are more than {MAX_ROUTES} routes",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused(written: str, line: int, said: str) -> None:
    assert any(found.startswith(f"alerts.yaml:{line}: ") and said in found for found in wrong(written))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "SLACK holds no URL of Apprise's, such as slack://"),
        ("zzz://very/secret", "SLACK holds a zzz:// URL, a service that Apprise does not know"),
        ("slack://very-secret", "SLACK holds a slack:// URL that Apprise cannot use"),
    ],
)
def test_a_service_that_cannot_be_used_is_named_without_its_url(
    url: str, said: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    [found] = wrong(HEAD + "  - {name: a, to: {apprise: {url_env: SLACK}}}", SLACK=url)

    assert said in found
    # Apprise logs what it cannot use, whole.
    shown = "".join(capfd.readouterr()) + caplog.text
    assert "very" not in shown


def test_without_secrets_routes_can_be_read_to_be_shown() -> None:
    written = HEAD + "  - {name: a, to: {webhook: {url_env: NOT_SET, secret_env: NOR_THIS}}}"
    [route] = read_routes(written, "alerts.yaml", None)

    assert route.target.named_by == "NOT_SET"
