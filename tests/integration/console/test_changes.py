"""Budgets changed from the page: previewed, confirmed, once, and in the name of who did it."""

import asyncio
import re
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html import unescape
from itertools import count
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from spendmeter.client import connect
from spendmeter.contract.alert import AlertKind
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.contract.records import encode_budget, encode_signal
from spendmeter.contract.topics import Topic
from spendmeter.domain.window import window_of
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.create import create_topics
from spendmeter_console.access.people import hash_of
from spendmeter_console.pages.changes import MAX_FORM_BYTES
from spendmeter_sinks.alerts.message import MessageContext, render
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.alerts import alert, webhook
from tests.builders import budget

from .conftest import Site, send, serving
from .reading import DESKTOP, PHONE, Reader, chromium
from .world import HOSTILE, World

ANN, RED, VIC = (f"spm-{letter * 43}" for letter in "ahv")
PEOPLE = f"""people:
  - {{name: ann, token_sha256: {hash_of(ANN)}, role: editor}}
  - {{name: rita, token_sha256: {hash_of(RED)}, role: editor, teams: [red]}}
  - {{name: vic, token_sha256: {hash_of(VIC)}}}
"""
NAMED = HOSTILE.replace("*", "x")
"""As hostile, and no pattern, which a tag in a budget may not be."""
KEY = "k" * 32
SAME_SITE = {"sec-fetch-site": "same-origin"}
KINDS = ("raise", "limit", "reset", "pause", "resume", "remove")
_NUMBERS = count()
T = TypeVar("T")


@pytest.fixture(scope="module")
def own(system: SinkSettings, world: World) -> SinkSettings:
    """Topics of its own, so that no other test's budgets change; history is the world's."""
    settings = system.model_copy(update={"topic_prefix": f"t{uuid4().hex[:12]}."})
    _run(create_topics(settings))
    return settings


@pytest.fixture(scope="module")
def page(own: SinkSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page where editors may change budgets."""
    directory = tmp_path_factory.mktemp("changes")
    people = directory / "people.yaml"
    people.write_text(PEOPLE)
    env = {"WEB_PEOPLE_FILE": str(people), "WEB_CHANGES": "true", "SIGNING_KEYS": KEY}
    with serving(own, directory, env) as served:
        yield served


@pytest.fixture(scope="module")
def session(page: Site) -> httpx.Cookies:
    """Of ann, who may change everything."""
    with signed_in(page, ANN) as client:
        return client.cookies


@pytest.fixture
def editor(page: Site, session: httpx.Cookies) -> Iterator[httpx.Client]:
    """She, at an address of its own, so that no test uses up another's rate."""
    with page.client(cookies=session) as client:
        yield client


def signed_in(site: Site, token: str) -> httpx.Client:
    with site.client() as client:
        answer = client.post("/sign-in", data={"token": token}, headers=SAME_SITE)
    assert answer.status_code == 303, answer.text
    return site.client(cookies=answer.cookies)


@pytest.fixture(scope="module")
def steady(own: SinkSettings, page: Site) -> Budget:
    """A budget of team red that no test changes; it has spent $6 of its $5."""
    return put(own, page, {"team": "red"}, {"red": 6})


@pytest.fixture
def of_reds(own: SinkSettings, page: Site) -> Budget:
    """A fresh budget of team red, which has spent $6 of its $5."""
    return put(own, page, {"team": "red"}, {"red": 6})


@pytest.fixture
def of_each(own: SinkSettings, page: Site) -> Budget:
    """A fresh budget with an account for each team: red has spent $6 of $5, blue $4, green $1."""
    return put(own, page, {"team": "*"}, {"red": 6, "blue": 4, "green": 1})


def put(own: SinkSettings, page: Site, match: dict[str, str], spent: dict[str, int]) -> Budget:
    """A budget and its signals; returns once the page has them."""
    now = datetime.now(UTC)
    made = budget(
        id=f"b/{next(_NUMBERS)}", match=match, limit_nanousd=from_usd("5"), period="month", updated_at=now
    )
    window = window_of(made, now)
    world = World.__new__(World)
    world._seq = 1
    signals = [
        world.signal(made, {"team": team}, f"{made.id}|team={team}", window, usd * 10**9, 1, now)
        for team, usd in spent.items()
    ]
    _run(
        send(
            own,
            [(Topic.BUDGETS, encode_budget(made)), *((Topic.SIGNALS, encode_signal(one)) for one in signals)],
        )
    )
    with page.client(headers={"authorization": f"Bearer {ANN}"}) as client:
        while len(client.get("/v1/accounts", params={"budget": made.id}).json()["accounts"]) < len(spent):
            pass
    return made


def in_force(own: SinkSettings) -> BudgetTopic:
    """What is on the topic."""
    topic = BudgetTopic(own)
    _run(topic.read_to_end())
    return topic


def _run(work: Coroutine[Any, Any, T]) -> T:
    """In a thread of its own: Playwright's loop runs in the main one for as long as the browser is open."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def revision_of(page: Site, made: Budget) -> int:
    """As the page has it."""
    with page.client(headers={"authorization": f"Bearer {ANN}"}) as client:
        budgets = client.get("/v1/budgets?limit=1000").json()["budgets"]
    return next(int(one["revision"]) for one in budgets if one["id"] == made.id)


def now_of(own: SinkSettings, made: Budget) -> Budget:
    found = in_force(own).book.get(made.id)
    assert found is not None
    return found


def path_of(made: Budget, kind: str) -> str:
    return f"/budgets/{made.id.replace('/', '%2F')}/{kind}"


def hidden(text: str) -> dict[str, str]:
    """What the form that confirms would send."""
    form = text.partition('<form class="confirm"')[2].partition("</form>")[0]
    return {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    }


def said(text: str) -> str:
    """The notice on a page."""
    found = re.search(r'<p class="(?:notice|done)"[^>]*>(.*?)</p>', text)
    return unescape(found[1]) if found else ""


def confirm(client: httpx.Client, path: str, fields: dict[str, str]) -> httpx.Response:
    return client.post(path.partition("?")[0], data=fields, headers=SAME_SITE)


def change(client: httpx.Client, path: str) -> httpx.Response:
    """Preview, then confirm; the page that one is led to."""
    answer = confirm(client, path, hidden(client.get(path).text))
    assert answer.status_code == 303, said(answer.text)
    return client.get(answer.headers["location"])


def figures(text: str) -> tuple[str, str]:
    """How many would be refused from now, and let in again."""
    found = [re.search(rf'id="now-{which}">(.*?)<', text) for which in ("refused", "admitted")]
    assert all(found), text
    return tuple(one[1] for one in found if one)  # type: ignore[return-value]


def test_a_raise_says_who_is_let_in_again_and_ends_by_itself(
    own: SinkSettings, editor: httpx.Client, of_each: Budget
) -> None:
    path = f"{path_of(of_each, 'raise')}?usd=2.50&for=window"
    preview = editor.get(path)
    shown = change(editor, path)

    assert figures(preview.text) == ("0", "1")
    assert "red" in preview.text.partition("Let in again</caption>")[2].partition("</table>")[0]
    window = window_of(of_each, datetime.now(UTC))
    assert window is not None
    found = now_of(own, of_each)
    assert [(one.amount_nanousd, one.until) for one in found.raises] == [(from_usd("2.5"), window.end)]
    assert (found.limit_nanousd, found.updated_by) == (of_each.limit_nanousd, "ann")
    assert found.revision > of_each.revision
    assert said(shown.text) == f"{of_each.id} is raised by $2.50."


@pytest.mark.parametrize(
    ("kind", "query", "effect", "fields", "sentence"),
    [
        ("limit", "?usd=4", ("1, and 1 as before", "0"), {"limit_nanousd": from_usd("4")}, "The limit of"),
        ("limit", "?usd=7", ("0", "1"), {"limit_nanousd": from_usd("7")}, "is $7.00."),
        ("reset", "", ("0", "1"), {"paused": False}, "begins anew"),
        ("pause", "", ("0", "1"), {"paused": True}, "is paused"),
    ],
)
def test_each_kind_of_change_is_previewed_and_made(
    own: SinkSettings,
    editor: httpx.Client,
    of_each: Budget,
    kind: str,
    query: str,
    effect: tuple[str, str],
    fields: dict[str, object],
    sentence: str,
) -> None:
    path = path_of(of_each, kind) + query

    assert figures(editor.get(path).text) == effect
    assert now_of(own, of_each) == of_each, "a preview changes nothing"
    assert sentence in said(change(editor, path).text)
    found = now_of(own, of_each)
    assert {name: getattr(found, name) for name in fields} == fields
    assert (found.reset_at is not None) == (kind == "reset")


def test_a_paused_budget_says_whom_it_will_refuse_once_resumed(
    own: SinkSettings, editor: httpx.Client, of_each: Budget
) -> None:
    change(editor, path_of(of_each, "pause"))
    assert figures(editor.get(path_of(of_each, "resume")).text) == ("1", "0")
    change(editor, path_of(of_each, "resume"))

    assert not now_of(own, of_each).paused


def test_a_removal_is_previewed_made_and_named(
    own: SinkSettings, editor: httpx.Client, of_each: Budget
) -> None:
    path = path_of(of_each, "remove")
    assert figures(editor.get(path).text) == ("0", "1")
    shown = change(editor, path)

    assert said(shown.text) == f"{of_each.id} is removed."
    assert in_force(own).book.get(of_each.id) is None
    assert tombstone(own, of_each.id)["ce_updatedby"] == b"ann"


def tombstone(own: SinkSettings, budget_id: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def on_record(record: object) -> None:
        if record.key == budget_id.encode() and record.value is None:  # type: ignore[attr-defined]
            found.update(record.headers)  # type: ignore[attr-defined]

    _run(CompactedTopics(own, [own.topic(Topic.BUDGETS)], on_record).read_to_end())
    return found


def test_a_new_budget_says_whom_it_would_refuse_from_what_history_has(
    own: SinkSettings, editor: httpx.Client, world: World
) -> None:
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    spent = world.spent_by(lambda event: [event.team or ""], lambda event: event.occurred_at >= start)
    limit = sorted(spent.values())[1]
    usd = f"{limit / 10**9:.9f}"
    fields = f"id=fresh&limit_usd={usd}&period=month&timezone=UTC&action=block&enforcement=strict"
    path = f"/new-budget?{fields}&warn_at=0.5,0.9&by1=team&is1=*"
    preview = editor.get(path).text

    assert figures(preview) == (str(sum(one >= limit for one in spent.values())), "0")
    assert f"<dd>{len(spent)} known now" in preview
    assert said(change(editor, path).text).startswith("fresh is in force")
    found = in_force(own).book.get("fresh")
    assert found is not None
    assert (found.match, found.limit_nanousd, found.warn_at) == ({"team": "*"}, limit, (0.5, 0.9))
    assert (str(found.enforcement), found.updated_by) == ("strict", "ann")
    assert "there is a budget fresh already" in said(editor.get(path).text)


def test_hostile_text_in_a_new_budget_is_text(editor: httpx.Client) -> None:
    query = {
        "id": "hostile",
        "limit_usd": "1",
        "period": "day",
        "timezone": "UTC",
        "by1": "tag",
        "is1": NAMED,
    }
    preview = editor.get("/new-budget", params=query)

    assert preview.status_code == 200
    assert "<img" not in preview.text
    shown = re.sub(r'<input type="hidden"[^>]*>', "", preview.text)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert hidden(preview.text)["is1"] == NAMED
    wrong = editor.get("/new-budget", params=query | {"id": HOSTILE})
    assert wrong.status_code == 422
    assert "<img" not in wrong.text


@pytest.mark.parametrize(
    ("kind", "query", "sentence"),
    [
        ("raise", "usd=x&for=1d", "'x' is not a decimal number"),
        ("raise", "usd=-1&for=1d", "-1 USD is not above 0"),
        ("raise", "usd=0.0000000001&for=1d", "finer than a nano-dollar"),
        ("raise", "usd=1&for=2y", "'2y' is no span"),
        ("raise", "usd=1&until=soon", "'soon' is no time"),
        ("raise", "usd=1&until=2020-01-01T00:00", "has ended already"),
        ("raise", "usd=1&until=0001-01-01T00:00", "is no time"),
        ("raise", "usd=1&until=9999-12-31T23:59-10:00", "is no time"),
        ("raise", "usd=999999999&for=1d", "beyond the largest amount"),
        ("limit", "usd=5", "this is the limit already"),
        ("limit", "usd=0", "0 USD is not above 0"),
        ("limit", "usd=1e400", "USD"),
        ("resume", "", "is not paused"),
    ],
)
def test_what_cannot_be_is_a_sentence_beside_the_form(
    editor: httpx.Client, untouched: Budget, kind: str, query: str, sentence: str
) -> None:
    answer = editor.get(f"{path_of(untouched, kind)}?{query}")

    assert answer.status_code == 422
    assert sentence in said(answer.text)
    assert hidden(answer.text) == {}


def test_a_new_budget_that_cannot_be_says_why(editor: httpx.Client) -> None:
    answers = {
        "limit_usd=1&period=day": "id is missing",
        "id=a b&limit_usd=1&period=day": "use 1 to 200 letters",
        "id=a&limit_usd=x&period=day": "limit_usd",
        "id=a&limit_usd=1&period=eon": "period",
        "id=a&limit_usd=1&period=day&timezone=Mars/Olympus": "timezone",
        "id=a&limit_usd=1&period=day&by1=key&is1=sk-secret": "a key in clear text",
        "id=a&limit_usd=1&period=day&by1=team&is1=a&by2=team&is2=b": "team is chosen twice",
        "id=a&limit_usd=1&period=day&is1=a": "is of no dimension",
        "id=a&limit_usd=1&period=day&warn_at=2": "warn_at",
    }

    said_to = {query: said(editor.get(f"/new-budget?{query}").text) for query in answers}
    assert {query: sentence for query, sentence in answers.items() if sentence not in said_to[query]} == {}


def test_a_form_that_is_sent_again_changes_nothing_more(
    own: SinkSettings, editor: httpx.Client, of_reds: Budget
) -> None:
    path = f"{path_of(of_reds, 'raise')}?usd=1&for=1d"
    fields = hidden(editor.get(path).text)
    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(lambda _: confirm(editor, path, fields), range(4))]

    assert {(one.status_code, one.headers.get("location")) for one in answers} == {
        (303, answers[0].headers["location"])
    }
    assert len(now_of(own, of_reds).raises) == 1
    removal = path_of(of_reds, "remove")
    fields = hidden(editor.get(removal).text)
    assert [confirm(editor, removal, fields).status_code for _ in range(2)] == [303, 303]


def test_a_form_with_other_content_than_it_was_sent_with_is_refused(
    own: SinkSettings, editor: httpx.Client, of_reds: Budget
) -> None:
    path = f"{path_of(of_reds, 'limit')}?usd=9"
    fields = hidden(editor.get(path).text)
    assert confirm(editor, path, fields).status_code == 303
    replayed = confirm(editor, path, fields | {"usd": "900"})

    assert replayed.status_code == 409
    assert "this form was sent before" in said(replayed.text)
    assert now_of(own, of_reds).limit_nanousd == from_usd("9")


def test_a_budget_that_somebody_changed_meanwhile_is_shown_as_it_is_now(
    own: SinkSettings, editor: httpx.Client, of_reds: Budget
) -> None:
    path = f"{path_of(of_reds, 'limit')}?usd=9"
    fields = hidden(editor.get(path).text)

    async def by_bob() -> None:
        async with connect(own, by="bob") as client:
            await client.set_limit(of_reds.id, from_usd("8"))

    _run(by_bob())
    late = confirm(editor, path, fields)

    assert late.status_code == 409
    assert "was changed by bob since you opened this form" in said(late.text)
    assert '<data value="8">' in late.text
    assert now_of(own, of_reds).limit_nanousd == from_usd("8")
    assert confirm(editor, path, hidden(late.text)).status_code == 303
    assert now_of(own, of_reds).limit_nanousd == from_usd("9")


def test_of_two_people_at_once_one_changes_the_budget(
    own: SinkSettings, page: Site, editor: httpx.Client, of_reds: Budget
) -> None:
    with signed_in(page, RED) as rita:
        paths = [f"{path_of(of_reds, 'limit')}?usd={usd}" for usd in (7, 8)]
        forms = [hidden(client.get(path).text) for client, path in zip((editor, rita), paths, strict=True)]
        with ThreadPoolExecutor(2) as threads:
            answers = [*threads.map(confirm, (editor, rita), paths, forms)]

    assert sorted(one.status_code for one in answers) == [303, 409]
    won = [one.status_code for one in answers].index(303)
    assert now_of(own, of_reds).limit_nanousd == from_usd("7" if won == 0 else "8")


def test_the_links_of_an_alert_lead_to_forms_that_are_filled_in(
    page: Site, editor: httpx.Client, of_reds: Budget
) -> None:
    found = alert(AlertKind.EXCEEDED, at=datetime.now(UTC), spent="6")
    assert found.signal is not None
    signal = found.signal.model_copy(
        update={
            "budget_id": of_reds.id,
            "account": f"{of_reds.id}|team=red",
            "subject": {"team": "red"},
            "limit_nanousd": of_reds.limit_nanousd,
        }
    )
    message = render(
        webhook(""), found.model_copy(update={"signal": signal}), MessageContext(of_reds, page=page.url)
    )

    raised, paused, account = (
        editor.get(one.removeprefix(page.url))
        for one in (message.raise_link, message.pause_link, message.link)
    )
    assert hidden(raised.text)["usd"] == "1"
    assert set(hidden(paused.text)) == {"token", "revision"}
    assert account.status_code == 200
    assert "team-red" not in account.text
    with page.client() as nobody:
        answer = nobody.get(message.raise_link.removeprefix(page.url))
        assert answer.headers["location"].startswith("/sign-in?next=%2Fbudgets%2F")
        onward = nobody.post(answer.headers["location"], data={"token": ANN}, headers=SAME_SITE)
        assert f"{page.url}{onward.headers['location']}" == message.raise_link


def test_a_budget_whose_name_ends_like_a_form_has_its_own_page(
    own: SinkSettings, editor: httpx.Client
) -> None:
    for budget_id in ("x", "x/raise"):
        made = budget(id=budget_id, match={}, period="lifetime", updated_at=datetime.now(UTC))
        _run(send(own, [(Topic.BUDGETS, encode_budget(made))]))
    while editor.get("/budgets/x%2Fraise").status_code != 200:
        pass

    assert "<h1><bdi>x/raise</bdi></h1>" in editor.get("/budgets/x%2Fraise").text
    assert "<h1><bdi>Raise x for a while</bdi></h1>" in editor.get("/budgets/x/raise").text
    assert "Raise x/raise for" in editor.get("/budgets/x%2Fraise/raise").text


def test_a_change_is_signed_and_the_name_is_nobodys_claim(
    own: SinkSettings, editor: httpx.Client, of_reds: Budget
) -> None:
    path = path_of(of_reds, "pause")
    assert "The change is signed" in editor.get(path).text
    shown = change(editor, path).text

    assert "by <bdi>ann</bdi>" in shown
    topic = BudgetTopic(own.model_copy(update={"signing_keys": SecretStr(KEY)}))
    _run(topic.read_to_end())
    assert of_reds.id in topic.signers


@pytest.fixture(scope="module")
def browser(page: Site, steady: Budget) -> Iterator[Browser]:
    """After the page and its records, which were sent from loops of their own."""
    with chromium() as started:
        yield started


def sign_in_there(opened: Reader) -> Page:
    opened.page.goto("/sign-in")
    opened.page.get_by_label("Token").fill(ANN)
    opened.page.get_by_role("button", name="Sign in").click()
    opened.page.wait_for_url("**/")
    return opened.page


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["desktop", "phone"]
)
def test_every_form_is_for_everybody(
    browser: Browser, page: Site, steady: Budget, scheme: str, viewport: dict[str, int]
) -> None:
    opened = Reader(browser, page, scheme, viewport)
    sign_in_there(opened)
    named = quote(NAMED)
    paths = [
        *(path_of(steady, kind) for kind in ("raise?usd=2&for=1d", "limit?usd=4", "limit?usd=x", "remove")),
        "/new-budget",
        f"/new-budget?id=n&limit_usd=1&period=day&timezone=UTC&by1=team&is1=*&by2=tag&is2={named}",
        f"/budgets/{quote(steady.id, safe='')}",
        "/budgets",
    ]
    wrong = {}
    for path in paths if viewport is DESKTOP else paths[:1] + paths[-3:]:
        opened.page.goto(path)
        expect(opened.page.locator("h1")).to_have_count(1)
        if found := opened.wrong():
            wrong[path] = found
    complaints = [one for one in opened.complaints if "422" not in one]
    opened.context.close()

    assert wrong == {}
    assert complaints == []


def test_the_keyboard_alone_raises_a_budget_and_the_page_says_so(
    own: SinkSettings, page: Site, browser: Browser
) -> None:
    made = put(own, page, {"team": "red"}, {"red": 6})
    opened = Reader(browser, page, "light", DESKTOP)
    shown = sign_in_there(opened)
    shown.goto(f"/budgets/{quote(made.id, safe='')}")
    shown.get_by_role("link", name="Raise for a while").focus()
    shown.keyboard.press("Enter")
    shown.get_by_label("How much more may be spent").focus()
    shown.keyboard.type("2.5")
    shown.keyboard.press("Enter")
    expect(shown.locator("#now-admitted")).to_have_text("1")
    shown.get_by_role("button", name="Raise it by $2.50").focus()
    shown.keyboard.press("Enter")
    expect(shown.get_by_role("status").first).to_have_text(f"{made.id} is raised by $2.50.")
    expect(shown.locator("#left data")).to_have_attribute("value", "1.5")
    complaints = opened.complaints
    opened.context.close()

    assert complaints == []


def test_without_javascript_a_budget_is_made_and_removed(page: Site, browser: Browser) -> None:
    opened = Reader(browser, page, "light", PHONE, java_script_enabled=False)
    shown = sign_in_there(opened)
    shown.goto("/budgets")
    shown.get_by_role("link", name="New budget").click()
    shown.get_by_label("Name").fill("by-hand")
    shown.get_by_label("Limit, in USD").fill("12.50")
    shown.get_by_role("button", name="Preview").click()
    shown.get_by_role("button", name="Put it in force").click()
    expect(shown.locator(".done")).to_have_text("by-hand is in force: $12.50 per month.")
    shown.get_by_role("link", name="Remove").click()
    shown.get_by_role("button", name="Remove it").click()
    expect(shown.locator(".done")).to_have_text("by-hand is removed.")
    opened.context.close()


# Attacks: each of these changes nothing.


@pytest.fixture
def untouched(page: Site, steady: Budget) -> Iterator[Budget]:
    """Of team red; after the test it is as it was."""
    yield steady
    assert revision_of(page, steady) == steady.revision


def test_a_viewer_sees_no_form_and_posts_in_vain(page: Site, editor: httpx.Client, untouched: Budget) -> None:
    form = hidden(editor.get(path_of(untouched, "pause")).text)
    with signed_in(page, VIC) as viewer:
        asked = {kind: viewer.get(path_of(untouched, kind)) for kind in KINDS}
        posted = {kind: confirm(viewer, path_of(untouched, kind), form) for kind in KINDS}
        shown = viewer.get(f"/budgets/{untouched.id.replace('/', '%2F')}").text
        created = viewer.get("/new-budget"), confirm(viewer, "/new-budget", form | {"id": "mine"})

    for one in (*asked.values(), *posted.values(), *created):
        assert one.status_code == 403
        assert "<form" not in one.text.partition("<main")[2]
    assert "/raise" not in shown


def test_a_team_editor_changes_budgets_of_that_team_alone(
    own: SinkSettings, page: Site, editor: httpx.Client, of_reds: Budget, of_each: Budget
) -> None:
    with signed_in(page, RED) as rita:
        assert change(rita, path_of(of_reds, "pause")).status_code == 200
        assert now_of(own, of_reds).updated_by == "rita"
        wider = rita.get(path_of(of_each, "pause"))
        posted = confirm(rita, path_of(of_each, "pause"), hidden(editor.get(path_of(of_each, "pause")).text))
        made = [
            rita.get(f"/new-budget?id=mine&limit_usd=900&period=day&{match}")
            for match in (
                "",
                "by1=team&is1=blue",
                "by1=team&is1=*",
                f"by1=team&is1=red&replaces={of_each.id}",
            )
        ]
        allowed = rita.get("/new-budget?id=mine&limit_usd=900&period=day&by1=team&is1=red")

    assert (wider.status_code, posted.status_code) == (403, 403)
    assert now_of(own, of_each) == of_each
    assert [one.status_code for one in made] == [422] * 4
    assert [hidden(one.text) for one in made] == [{}] * 4
    assert hidden(allowed.text)["id"] == "mine"


def test_of_another_team_there_is_nothing_to_change(
    own: SinkSettings, page: Site, editor: httpx.Client
) -> None:
    blues = put(own, page, {"team": "blue"}, {"blue": 1})
    fields = hidden(editor.get(path_of(blues, "pause")).text)
    with signed_in(page, RED) as rita:
        assert rita.get(path_of(blues, "pause")).status_code == 404
        assert confirm(rita, path_of(blues, "pause"), fields).status_code in (403, 404)

    assert now_of(own, blues) == blues


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
    ],
)
def test_a_form_of_another_site_changes_nothing(
    editor: httpx.Client, untouched: Budget, headers: dict[str, str]
) -> None:
    path = path_of(untouched, "pause")
    fields = hidden(editor.get(path).text)

    assert editor.post(path, data=fields, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "alter",
    [
        lambda token: "",
        lambda token: "x",
        lambda token: token[:-1] + ("0" if token[-1] != "0" else "1"),
        lambda token: token.replace(".", ".9", 1),
        lambda token: f"{'A' * 22}.{token.partition('.')[2]}",
    ],
    ids=["missing", "made up", "another signature", "another time", "another name"],
)
def test_a_form_without_its_own_token_changes_nothing(
    editor: httpx.Client, untouched: Budget, alter: object
) -> None:
    path = path_of(untouched, "pause")
    fields = hidden(editor.get(path).text)
    answer = confirm(editor, path, fields | {"token": alter(fields["token"])})  # type: ignore[operator]

    assert answer.status_code == 403
    assert "form" in said(answer.text)
    assert hidden(answer.text)["token"] != fields["token"]


def test_a_token_of_another_sign_in_changes_nothing(
    page: Site, editor: httpx.Client, untouched: Budget
) -> None:
    path = path_of(untouched, "pause")
    with signed_in(page, ANN) as elsewhere, signed_in(page, RED) as rita:
        theirs = hidden(elsewhere.get(path).text)
        assert confirm(editor, path, theirs).status_code == 403
        assert confirm(rita, path, theirs).status_code == 403


def test_a_cookie_that_was_stolen_is_worth_nothing_after_the_sign_out(page: Site, untouched: Budget) -> None:
    path = path_of(untouched, "pause")
    with signed_in(page, ANN) as client:
        fields = hidden(client.get(path).text)
        stolen = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
        client.post("/sign-out", headers=SAME_SITE)
    with page.client() as thief:
        answer = thief.post(path, data=fields, headers=SAME_SITE | stolen)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


def test_a_session_that_somebody_planted_does_not_become_theirs(page: Site) -> None:
    """Fixation: the cookie that a browser had before its sign-in is nobody's afterwards, too."""
    planted = {"cookie": f"spendmeter_session={'p' * 43}"}
    with page.client() as victim:
        answer = victim.post("/sign-in", data={"token": ANN}, headers=SAME_SITE | planted)
    with page.client() as attacker:
        assert attacker.get("/budgets", headers=planted).status_code == 303

    assert answer.status_code == 303
    assert "p" * 43 not in answer.headers["set-cookie"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_change_under_another_host_name_is_refused(
    editor: httpx.Client, untouched: Budget, host: str
) -> None:
    path = path_of(untouched, "pause")
    fields = hidden(editor.get(path).text)

    assert editor.post(path, data=fields, headers=SAME_SITE | {"host": host}).status_code in (400, 421)


@pytest.mark.parametrize(
    "body",
    [
        b"token=" + b"x" * (MAX_FORM_BYTES + 1),
        b"&".join(b"f%d=1" % number for number in range(1_000)),
        b"usd=1&usd=2",
        b"\xff\xfe%00%ff=%f0",
    ],
    ids=["too long", "too many fields", "a field twice", "no text"],
)
def test_a_form_that_no_page_of_ours_sends_is_refused(
    editor: httpx.Client, untouched: Budget, body: bytes
) -> None:
    answer = editor.post(path_of(untouched, "limit"), content=body, headers=SAME_SITE)

    assert answer.status_code in (403, 422)


def test_changes_are_not_sent_by_the_hundred(page: Site, untouched: Budget) -> None:
    with signed_in(page, ANN) as client:
        answers = [confirm(client, path_of(untouched, "pause"), {"token": "x"}) for _ in range(40)]

    codes = [one.status_code for one in answers]
    assert codes.count(429) >= 10
    assert set(codes) <= {403, 429}
    assert int(answers[codes.index(429)].headers["retry-after"]) >= 1


def test_no_frame_of_another_site_holds_a_form(editor: httpx.Client, untouched: Budget) -> None:
    headers = editor.get(path_of(untouched, "remove")).headers

    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "form-action 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"


def test_a_bearer_token_opens_no_form(page: Site, untouched: Budget) -> None:
    """It is for programs: a page is for a session, which alone has forms."""
    with page.client(headers={"authorization": f"Bearer {ANN}"}) as client:
        assert client.get(path_of(untouched, "pause")).status_code == 303
        assert confirm(client, path_of(untouched, "pause"), {"token": "x"}).status_code == 303
