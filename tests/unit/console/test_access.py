"""Who may see what: people in a file, sessions, rates, and which address counts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers

from spendmeter_console.access.forms import VALID_SECONDS, FormTokens, InvalidForm
from spendmeter_console.access.guard import client_address
from spendmeter_console.access.people import InvalidPeopleFile, People, hash_of, new_token, read_people
from spendmeter_console.access.rates import MAX_BUCKETS, Rates, bucket_of
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import Role, Viewer, ViewScope

TOKEN = "spm-" + "t" * 43
FILE = f"""people:
  - {{name: ann, token_sha256: {hash_of(TOKEN)}, role: editor}}
  - {{name: bert, token_sha256: {"b" * 64}, teams: [red, "01"]}}
  - {{name: nobody, teams: []}}
"""


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(FILE)
    return path


def test_a_file_of_people_says_who_sees_what() -> None:
    ann, bert, nobody = read_people(FILE, "people.yaml")

    assert (ann.role, ann.scope) == (Role.EDITOR, ViewScope())
    assert (bert.role, bert.scope) == (Role.VIEWER, ViewScope(frozenset({"red", "01"})))
    assert not nobody.scope.is_everything
    assert not nobody.scope.has({"team": "red"})


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{}", "there are no people"),
        ("people: [{token_sha256: aa}]", "1 to 200 characters"),
        ("people: [{name: ann, token_sha256: abc}]", "64 hex"),
        (f"people: [{{name: ann, token: {TOKEN}}}]", "no field 'token'; there is name"),
        ("people: [{name: ann, role: boss}]", "'boss' is not known"),
        ("people: [{name: ann, teams: red}]", "teams is a list"),
        ("people: [{name: ann}, {name: ann}]", "stands twice"),
        (
            f"people: [{{name: a, token_sha256: {'a' * 64}}}, {{name: b, token_sha256: {'a' * 64}}}]",
            "this token",
        ),
    ],
)
def test_a_file_that_is_wrong_names_the_fix(written: str, says: str) -> None:
    with pytest.raises(InvalidPeopleFile, match=says):
        read_people(written, "people.yaml")


def test_a_token_is_found_by_its_hash_alone(file: Path) -> None:
    people = People(file)

    found = people.by_token(TOKEN)
    assert found is not None
    assert found.name == "ann"
    for wrong in ("", "x", TOKEN[:-1], TOKEN + " ", hash_of(TOKEN), "\udc80"):
        assert people.by_token(wrong) is None


def test_a_change_of_the_file_counts_at_once_and_a_broken_one_changes_nothing(file: Path) -> None:
    people = People(file)
    file.write_text("people: [")
    assert people.by_token(TOKEN) is not None

    file.write_text("people: [{name: other}]")
    assert people.by_token(TOKEN) is None
    assert people.by_name("other") is not None


def test_a_session_ends_with_its_time_its_person_or_their_token(file: Path) -> None:
    clock, people = Clock(), People(file)
    sessions = Sessions(people, hours=1, clock=clock)
    ann = people.by_token(TOKEN)
    assert ann is not None

    first, second, third = (sessions.begin(ann) for _ in range(3))
    assert len({first, second, third}) == 3
    sessions.end(first)
    assert sessions.person_of(first) is None
    assert sessions.person_of(second) == ann

    clock.now = 3_599.9
    assert sessions.person_of(second) == ann
    clock.now = 3_600
    assert sessions.person_of(second) is None

    clock.now = 0
    file.write_text(FILE.replace(hash_of(TOKEN), "c" * 64))
    assert sessions.person_of(third) is None


def test_a_burst_is_let_through_and_then_as_many_as_a_minute_holds() -> None:
    clock = Clock()
    rates = Rates(per_minute=6, burst=3, clock=clock)

    assert [rates.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 10]
    assert rates.wait_seconds("b") == 0
    clock.now = 9.9
    assert rates.wait_seconds("a") > 0
    clock.now = 10
    assert rates.wait_seconds("a") == 0
    clock.now = 10_000
    assert [rates.wait_seconds("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_who_asks_under_ever_new_names_costs_no_memory() -> None:
    rates = Rates(per_minute=1, burst=1, clock=Clock())
    for number in range(MAX_BUCKETS + 100):
        rates.wait_seconds(str(number))

    assert len(rates._buckets) == MAX_BUCKETS


def test_a_network_of_ipv6_is_one_client() -> None:
    assert bucket_of("2001:db8:1:2::1") == bucket_of("2001:db8:1:2:ffff::9")
    assert bucket_of("2001:db8:1:2::1") != bucket_of("2001:db8:1:3::1")
    assert bucket_of("192.0.2.1") != bucket_of("192.0.2.2")


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts"),
    [
        ("192.0.2.9", "10.9.9.9", "192.0.2.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "1.2.3.4,", "10.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_a_listed_proxy_added(peer: str, forwarded: str, counts: str) -> None:
    settings: Any = SimpleNamespace(proxies=ConsoleSettings(web_trusted_proxies=("10.0.0.0/30",)).proxies)
    headers = Headers({"x-forwarded-for": forwarded})

    assert client_address({"client": (peer, 1)}, headers, settings) == counts


def test_beyond_loopback_nobody_is_served_without_sign_in() -> None:
    with pytest.raises(ValidationError, match="WEB_PEOPLE_FILE"):
        ConsoleSettings(web_host="0.0.0.0")
    assert not ConsoleSettings().needs_sign_in
    assert ConsoleSettings(web_host="0.0.0.0", web_trusted_proxies=("10.0.0.1",)).needs_sign_in


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("web_trusted_proxies", "10.0.0.1,proxy"),
        ("web_url", "spend.example"),
        ("web_url", "https://spend.example/page"),
        ("web_metrics_urls", "file:///etc/passwd"),
        ("web_proxy_header", "X User"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError):
        ConsoleSettings.model_validate({field: value})


def test_a_change_has_an_author_or_is_not_allowed() -> None:
    with pytest.raises(ValidationError, match="WEB_PEOPLE_FILE"):
        ConsoleSettings(web_changes=True)
    assert ConsoleSettings(web_changes=True, web_trusted_proxies=("10.0.0.1",)).web_changes


def test_a_form_is_for_who_got_it_and_for_an_hour() -> None:
    clock = Clock()
    tokens, others = FormTokens(clock), FormTokens(clock)
    token = tokens.issue("session a")

    assert tokens.accept("session a", token) == tokens.accept("session a", token)
    for holder, made in (("session b", token), ("session a", others.issue("session a")), ("session a", "")):
        with pytest.raises(InvalidForm):
            tokens.accept(holder, made)
    clock.now = VALID_SECONDS
    tokens.accept("session a", token)
    clock.now += 1
    with pytest.raises(InvalidForm, match="more than an hour old"):
        tokens.accept("session a", token)


def test_an_editor_of_teams_changes_what_is_of_these_alone() -> None:
    team = Viewer("rita", Role.EDITOR, ViewScope(frozenset({"red"})), holder="session x")

    assert team.may_change({"team": "red", "user": "*"})
    for match in ({"team": "*"}, {"team": "blue"}, {"user": "ann"}, {}):
        assert not team.may_change(match)
    assert Viewer("ann", Role.EDITOR, holder="session y").may_change({})
    assert not Viewer("vic", Role.VIEWER, holder="session z").may_change({})
    assert not Viewer("ann", Role.EDITOR).may_change({}), "with a bearer token, or without sign-in"


def test_no_two_tokens_are_alike() -> None:
    made = {new_token() for _ in range(1_000)}

    assert len(made) == 1_000
    assert min(map(len, made)) >= 47
