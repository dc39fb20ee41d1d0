"""Attacks on who may see what: each request here must get nothing that is not its sender's."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from spendmeter_console.access.people import hash_of
from spendmeter_console.pages.sheets import csv_lines
from spendmeter_sinks.clickhouse.settings import SinkSettings

from .conftest import Site, serving
from .world import World
from .world import hash_of as key_hash

ANN, RED, NONE = (f"spm-{letter * 43}" for letter in "arn")
PEOPLE = f"""people:
  - {{name: ann, token_sha256: {hash_of(ANN)}, role: editor}}
  - {{name: rita, token_sha256: {hash_of(RED)}, teams: [red]}}
  - {{name: nils, token_sha256: {hash_of(NONE)}, teams: []}}
  - {{name: proxied, teams: [blue]}}
"""
PAGES = ("/", "/budgets", "/explore", "/events", "/refusals", "/alerts", "/prices", "/health", "/live")
API = ("/v1/budgets", "/v1/accounts", "/v1/spend", "/v1/events", "/v1/refusals")
SAME_SITE = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def guarded(system: SinkSettings, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page with people who must sign in."""
    directory = tmp_path_factory.mktemp("guarded")
    people = directory / "people.yaml"
    people.write_text(PEOPLE)
    with serving(system, directory, {"WEB_PEOPLE_FILE": str(people), "WEB_SESSION_HOURS": "1"}) as served:
        yield served


@pytest.fixture(scope="module")
def behind_proxy(
    system: SinkSettings, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The page behind a proxy that is listed, which here is this process."""
    directory = tmp_path_factory.mktemp("proxied")
    people = directory / "people.yaml"
    people.write_text(PEOPLE)
    env = {
        "WEB_PEOPLE_FILE": str(people),
        "WEB_TRUSTED_PROXIES": "127.0.0.1",
        "WEB_URL": "https://spend.example",
    }
    with serving(system, directory, env) as served:
        yield served


def signed_in(site: Site, token: str) -> httpx.Client:
    with site.client() as client:
        answer = client.post("/sign-in", data={"token": token}, headers=SAME_SITE)
    assert answer.status_code == 303, answer.text
    return site.client(cookies=answer.cookies)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", [*PAGES, *API, "/explore.csv", "/events.csv", "/budgets/rows", "/nothing"])
def test_nothing_is_shown_to_who_is_not_signed_in(guarded: Site, path: str) -> None:
    with guarded.client() as client:
        answer = client.get(path)

    if path.startswith("/v1/"):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
    assert "team" not in answer.text


@pytest.mark.parametrize(
    "cookie", ["", "x", "0" * 43, "../../etc/passwd", "a;spendmeter_session=b", '"\\"', hash_of(ANN)]
)
def test_a_made_up_session_is_nobodys(guarded: Site, cookie: str) -> None:
    with guarded.client() as client:
        answer = client.get("/", headers={"cookie": f"spendmeter_session={cookie}"})

    assert answer.status_code == 303


@pytest.mark.parametrize("wrong", ["x", ANN[:-1], hash_of(ANN), f"{ANN} {ANN}", "' OR 1=1 --", "ä"])
def test_a_wrong_token_signs_nobody_in(guarded: Site, wrong: str) -> None:
    with guarded.client() as client:
        answer = client.get("/v1/spend", headers=[(b"authorization", f"Bearer {wrong}".encode("latin-1"))])

    assert answer.status_code in (400, 401)


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(guarded: Site, behind_proxy: Site) -> None:
    with guarded.client() as client:
        plain = client.post("/sign-in", data={"token": ANN}, headers=SAME_SITE).headers["set-cookie"]
    with behind_proxy.client("127.0.0.1") as client:
        secure = client.post(
            "/sign-in", data={"token": ANN}, headers=SAME_SITE | {"host": "spend.example"}
        ).headers["set-cookie"]

    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=3600"} <= set(plain.split("; "))
    assert secure.startswith("__Host-spendmeter=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(secure.split("; "))
    assert "Domain" not in secure


def test_a_session_ends_with_its_sign_out_even_for_who_kept_the_cookie(guarded: Site) -> None:
    with signed_in(guarded, ANN) as client:
        kept = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
        assert client.get("/").status_code == 200
        assert client.post("/sign-out", headers=SAME_SITE).status_code == 303

    with guarded.client() as client:
        assert client.get("/", headers=kept).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_a_form_of_another_site_does_nothing(guarded: Site, headers: dict[str, str]) -> None:
    with signed_in(guarded, ANN) as client:
        assert client.post("/sign-out", headers=headers).status_code == 403
        assert client.get("/").status_code == 200
    with guarded.client() as client:
        answer = client.post("/sign-in", data={"token": ANN}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "spend.example:80", "[::1"])
def test_a_name_that_was_bent_to_this_machine_is_refused(site: Site, host: str) -> None:
    """DNS rebinding: the browser believes the page is evil.example's, and would read it out to that."""
    with site.client() as client:
        answer = client.get("/v1/spend", headers={"host": host})

    assert answer.status_code in (400, 421)
    assert 'spend"' not in answer.text


@pytest.mark.parametrize(
    "onward", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\\b", "javascript:1"]
)
def test_a_sign_in_leads_to_no_other_site(guarded: Site, onward: str) -> None:
    with guarded.client() as client:
        answer = client.post("/sign-in", params={"next": onward}, data={"token": ANN}, headers=SAME_SITE)

    assert answer.headers["location"] == "/"


def test_a_form_without_end_is_not_read(guarded: Site) -> None:
    with guarded.client() as client:
        answer = client.post("/sign-in", content=b"token=" + b"x" * 100_000, headers=SAME_SITE)

    assert answer.status_code == 422


def test_a_team_viewer_sees_their_team_in_every_answer(guarded: Site, world: World) -> None:
    headers = bearer(RED)
    with guarded.client(headers=headers) as client:
        spend = client.get("/v1/spend?by=team&by=key&range=30d").json()
        events = client.get("/v1/events?range=30d&limit=1000").json()["events"]
        accounts = client.get("/v1/accounts").json()["accounts"]
        refusals = client.get("/v1/refusals?range=30d").json()["refusals"]
        budgets = client.get("/v1/budgets").json()["budgets"]
        reds = client.get("/v1/spend?range=30d&by=team").json()["total"]["spent_usd"]
    with guarded.client(headers=bearer(ANN)) as client:
        of_red = client.get("/v1/spend?range=30d&by=team&team=red").json()["total"]["spent_usd"]

    assert {row["values"]["team"] for row in spend["spend"]} == {"red"}
    assert reds == of_red != "0"
    assert {row["team"] for row in events} == {"red"}
    assert {row["account"] for row in accounts} == {"team-month|team=red", "litellm:team:red|team=red"}
    assert {row["decision_id"] for row in refusals} == {str(one) for one in world.decision_ids("red")}
    assert {row["id"] for row in budgets} == {"team-month", "litellm:team:red"}
    assert {row["id"]: row["accounts"] for row in budgets}["team-month"] == 1


def test_a_team_viewer_sees_alerts_that_concern_their_team_without_an_account(guarded: Site) -> None:
    def shown(token: str) -> list[str]:
        with signed_in(guarded, token) as client:
            page = client.get("/alerts?range=30d").text
        return [team for team in ("red", "blue", "everything") if f"digest of {team} " in page]

    assert shown(RED) == ["red"]
    assert shown(NONE) == []
    assert shown(ANN) == ["red", "blue", "everything"]


@pytest.mark.parametrize(
    "query",
    [
        "team=blue",
        "team=",
        "key=" + key_hash("notebook"),
        "user=dan",
        "model=gpt-4o') OR 1=1 --",
        "tag=x'%20OR%20'1'='1",
    ],
)
def test_no_filter_leads_out_of_a_viewers_teams(guarded: Site, query: str) -> None:
    span = "range=30d"
    with signed_in(guarded, RED) as client:
        spend = client.get(f"/v1/spend?{span}&{query}").json()
        events = client.get(f"/v1/events?{span}&{query}").json()
        shown = client.get(f"/events?{span}&{query}").text
        explored = client.get(f"/explore?{span}&{query}").text
        written = client.get(f"/events.csv?{span}&{query}").text
        table = client.get(f"/explore.csv?{span}&{query}").text

    assert (spend["total"]["requests"], spend["total"]["spent_usd"], events["events"]) == (0, "0", [])
    assert "No event fits" in shown
    assert "Nothing was spent here" in explored
    assert len(written.splitlines()) == len(table.splitlines()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/budgets/company-year",
        "/budgets/key-day",
        "/budgets/hostile",
        "/budgets/team-month?account=team-month%7Cteam%3Dblue",
        "/live?budget=key-day",
        "/health",
    ],
)
def test_what_is_of_others_is_not_there_for_a_team_viewer(guarded: Site, path: str) -> None:
    with signed_in(guarded, RED) as client:
        answer = client.get(path)

    assert answer.status_code == 404
    assert "blue" not in answer.text


def test_a_refusal_of_another_team_is_as_one_that_never_was(guarded: Site, world: World) -> None:
    [blue, *_] = world.decision_ids("blue")
    with guarded.client(headers=bearer(RED)) as client:
        theirs = client.get(f"/v1/refusals/{blue}")
        nobodys = client.get("/v1/refusals/019a2c5e-5c00-7abc-8def-0123456789ac")

    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace(str(blue), "") == nobodys.text.replace(
        "019a2c5e-5c00-7abc-8def-0123456789ac", ""
    )


def test_alerts_of_another_team_and_where_they_were_sent_are_as_if_they_never_were(
    guarded: Site, world: World
) -> None:
    reds, others = list[str](), list[str]()
    for one in world.alerts:
        (reds if one.concerns.get("team") == "red" else others).append(str(one.alert_id))
    nobodys = "019a2c5e-5c00-7abc-8def-0123456789ac"
    with signed_in(guarded, RED) as client:
        listed = client.get("/alerts?range=30d").text
        answers = {one: client.get(f"/alerts/{one}") for one in (*reds, *others, nobodys)}

    assert reds
    assert others
    assert [one in listed for one in (*reds, *others)] == [True] * len(reds) + [False] * len(others)
    assert {answers[one].status_code for one in reds} == {200}
    assert {answers[one].text.replace(one, "") for one in others} == {
        answers[nobodys].text.replace(nobodys, "")
    }
    assert answers[nobodys].status_code == 404


def test_who_has_no_team_sees_nothing(guarded: Site) -> None:
    with guarded.client(headers=bearer(NONE)) as client:
        assert client.get("/v1/spend?range=30d").json()["total"]["requests"] == 0
        assert client.get("/v1/events?range=30d").json()["events"] == []
        assert client.get("/v1/accounts").json()["accounts"] == []
        assert client.get("/v1/refusals?range=30d").json()["refusals"] == []


@pytest.mark.parametrize(
    "header", ["X-Forwarded-User", "X-Forwarded-Email", "Remote-User", "X-Forwarded-For"]
)
def test_a_name_in_a_header_is_believed_of_no_other_than_a_listed_proxy(guarded: Site, header: str) -> None:
    with guarded.client() as client:
        assert client.get("/", headers={header: "ann"}).status_code == 303
        assert client.get("/v1/spend", headers={header: "ann"}).status_code == 401


def test_a_listed_proxy_names_people_of_the_file_and_no_others(behind_proxy: Site) -> None:
    host = ("host", "spend.example")
    with behind_proxy.client("127.0.0.1") as client:
        found = client.get("/v1/spend?by=team&range=30d", headers=[host, ("X-Forwarded-User", "proxied")])
        unknown = client.get("/v1/spend", headers=[host, ("X-Forwarded-User", "mallory")])
        twice = client.get(
            "/v1/spend", headers=[host, ("X-Forwarded-User", "ann"), ("X-Forwarded-User", "proxied")]
        )
        none = client.get("/v1/spend", headers=[host])

    assert {row["values"]["team"] for row in found.json()["spend"]} == {"blue"}
    assert [one.status_code for one in (unknown, twice, none)] == [401, 401, 401]
    with behind_proxy.client("127.0.0.2") as client:
        assert client.get("/v1/spend", headers=[host, ("X-Forwarded-User", "ann")]).status_code == 401


def test_keys_are_not_guessed_by_the_thousand(guarded: Site) -> None:
    """Ten at once, and one every three seconds: what the requests themselves take is allowed for."""
    began, answers = time.monotonic(), list[httpx.Response]()
    with guarded.client() as client:
        while len(answers) < 30 or answers[-1].status_code != 429:
            answers.append(client.get("/v1/me", headers=bearer(f"sk-{len(answers)}")))
            assert len(answers) < 1_000

    seconds = time.monotonic() - began
    assert [answer.status_code for answer in answers].count(401) <= 11 + seconds / 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "sk-1" not in guarded.log.read_text()


def test_no_page_may_run_or_load_anything_of_another(site: Site) -> None:
    with site.client() as client:
        for path in ("/", "/me", "/static/page.js", "/nothing", "/v1/spend", "/explore?by=x"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "access-control-allow-origin" not in headers
            assert ("no-store" in headers.get("cache-control", "")) == (not path.startswith("/static"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../templates/base.html",
        "/static/%2e%2e/templates/base.html",
        "/static//etc/passwd",
        "/static/..%2ftemplates/base.html",
    ],
)
def test_no_other_file_is_served(site: Site, path: str) -> None:
    url = urlsplit(site.url)
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 80), 10) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: wire.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 404")
    assert b"block main" not in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed_by_another_method(site: Site, method: str) -> None:
    with site.client() as client:
        assert client.request(method, "/v1/budgets").status_code == 405
        assert client.post("/v1/budgets", headers=SAME_SITE).status_code == 405


@pytest.mark.parametrize(
    "path", ["/", "/explore?by=tag&by=team&range=30d", "/events", "/refusals", "/budgets", "/prices"]
)
def test_what_somebody_named_is_text_in_every_page(site: Site, path: str) -> None:
    with site.client() as client:
        text = client.get(path).text

    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;img" in text or path == "/prices"


def test_a_csv_cell_is_no_formula() -> None:
    cells = ["=1+1", "+1+1", "-cmd|calc", "@SUM(A1)", "\t=1", "-0.5", "0.5", "plain"]
    written = csv_lines([cells]).decode()

    assert written.strip() == "'=1+1,'+1+1,'-cmd|calc,'@SUM(A1),'\t=1,-0.5,0.5,plain"


def test_without_the_setting_an_editor_changes_nothing_either(guarded: Site) -> None:
    with signed_in(guarded, ANN) as client:
        asked = client.get("/budgets/key-day/pause")
        posted = client.post("/budgets/key-day/pause", data={"token": "x"}, headers=SAME_SITE)
        created = client.post("/new-budget", data={"id": "x"}, headers=SAME_SITE)
        shown = client.get("/budgets").text + client.get("/budgets/key-day").text

    assert [one.status_code for one in (asked, posted, created)] == [403] * 3
    assert "SPENDMETER_WEB_CHANGES is off" in asked.text
    assert "/new-budget" not in shown
    assert "/pause" not in shown


@pytest.mark.parametrize("path", ["/budgets/key-day/pause", "/new-budget"])
def test_where_nobody_signs_in_nobody_changes_anything(site: Site, path: str) -> None:
    with site.client() as client:
        assert client.get(path).status_code == 403
        assert client.post(path, data={"token": "x"}, headers=SAME_SITE).status_code == 403
