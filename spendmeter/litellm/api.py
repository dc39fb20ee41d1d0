"""LiteLLM's management API over HTTP: what it knows about budgets, and how to change that."""

import json
from collections.abc import Iterator
from datetime import date
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from spendmeter.visible import one_line

ANSWER_WITHIN_SECONDS = 60
PAGE = 100
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_PAGES = 10_000
_MAX_MESSAGE_CHARS = 300

Row = dict[str, Any]


class NotAnswered(Exception):
    """LiteLLM could not be reached, or refused; the message is its own."""


class LitellmApi:
    """A client of one proxy, with its master key. Every method raises NotAnswered; so does a wrong URL."""

    def __init__(self, url: str, api_key: str) -> None:
        if not _is_url(url):
            raise NotAnswered(f"{url!r} is no URL of a proxy, such as http://127.0.0.1:4000")
        if not (api_key.isascii() and api_key.isprintable() and api_key):
            raise NotAnswered("the proxy's key has characters that no key has; copy it again")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def virtual_keys(self) -> Iterator[Row]:
        """Every virtual key."""
        return self._pages("/key/list", "keys", "size", "token", return_full_object="true")

    def teams(self) -> Iterator[Row]:
        """Every team."""
        return self._pages("/v2/team/list", "teams", "page_size", "team_id")

    def users(self) -> Iterator[Row]:
        """Every user."""
        return self._pages("/user/list", "users", "page_size")

    def members(self, team_id: str) -> list[Row]:
        """The memberships of a team, each with its budget."""
        return _rows(_mapping(self._get("/team/info", team_id=team_id)).get("team_memberships"))

    def customers(self) -> list[Row]:
        """Every end user that LiteLLM keeps."""
        return self._list("/customer/list")

    def tags(self) -> list[Row]:
        """Every tag."""
        return self._list("/tag/list")

    def organizations(self) -> list[Row]:
        """Every organization; an enterprise feature."""
        return self._list("/organization/list")

    def projects(self) -> list[Row]:
        """Every project; an enterprise feature."""
        return self._list("/project/list")

    def general_settings(self) -> Row:
        """LiteLLM's effective `general_settings`, as far as it shows them; an unset one is None."""
        rows = _rows(self._get("/config/list", config_type="general_settings"), "field_name")
        return {row["field_name"]: row.get("field_value") for row in rows}

    def spent_by_day(self, since: date, until: date) -> Iterator[Row]:
        """The spend of each key on each model group on each of these days (UTC)."""
        days = {"start_date": since.isoformat(), "end_date": until.isoformat()}
        for page in range(1, MAX_PAGES + 1):
            answer = _mapping(self._get("/user/daily/activity", page=page, page_size=PAGE, **days))
            yield from _rows(answer.get("results"))
            if page >= (_mapping(answer.get("metadata")).get("total_pages") or 1):
                return
        raise NotAnswered(f"{self.url}/user/daily/activity has more than {MAX_PAGES} pages")

    def budgets(self) -> dict[str, Row]:
        """LiteLLM's table of budgets, by id."""
        return {row["budget_id"]: row for row in _rows(self._get("/budget/list"), "budget_id")}

    def post(self, path: str, body: Row) -> Row:
        """Change something; returns what the proxy says about it."""
        return _mapping(self._ask(Request(self.url + path, json.dumps(body).encode(), self._headers)))

    def _pages(self, path: str, name: str, size: str, *needed: str, **query: str) -> Iterator[Row]:
        for page in range(1, MAX_PAGES + 1):
            answer = _mapping(self._get(path, page=page, **{size: PAGE}, **query))
            yield from _rows(answer.get(name), *needed)
            if page >= (answer.get("total_pages") or 1):
                return
        raise NotAnswered(f"{self.url}{path} has more than {MAX_PAGES} pages")

    def _list(self, path: str) -> list[Row]:
        return _rows(self._get(path))

    def _get(self, path: str, **query: object) -> Any:
        suffix = f"?{urlencode(query)}" if query else ""
        return self._ask(Request(f"{self.url}{path}{suffix}", headers=self._headers))

    def _ask(self, request: Request) -> Any:
        try:
            with urlopen(request, timeout=ANSWER_WITHIN_SECONDS) as answer:
                return json.loads(answer.read(MAX_ANSWER_BYTES))
        except HTTPError as error:
            with error:
                raise NotAnswered(f"{request.selector.partition('?')[0]}: {_message_of(error)}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            said = getattr(reason, "strerror", None) or reason
            raise NotAnswered(
                f"no proxy answers at {self.url} ({one_line(str(said))}); start it, or correct the URL"
            ) from None
        except (ValueError, RecursionError):
            raise NotAnswered(f"{self.url} answers no JSON; is it a LiteLLM proxy?") from None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        return False


def _rows(value: object, *needed: str) -> list[Row]:
    """The objects in a list that have what is needed."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and all(row.get(name) for name in needed)]


def _mapping(value: object) -> Row:
    return value if isinstance(value, dict) else {}


def _message_of(error: HTTPError) -> str:
    body = error.read(MAX_ANSWER_BYTES).decode(errors="replace")
    try:
        said = json.loads(body)
        said = said.get("error", said.get("detail", said))
        said = said.get("message", said.get("error", said)) if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        said = body
    return f"{one_line(str(said)[:_MAX_MESSAGE_CHARS])} ({error.code})"
