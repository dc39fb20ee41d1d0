"""LiteLLM's management API over HTTP: what it knows about budgets, and how to change that."""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

ANSWER_WITHIN_SECONDS = 60
PAGE = 100
MAX_PAGES = 10_000
_MAX_WORDS = 300

Row = dict[str, Any]


class NotAnswered(Exception):
    """LiteLLM could not be reached, or would not do it; the message is its own."""


class LitellmApi:
    """One proxy, asked with its master key. Every method raises NotAnswered."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def virtual_keys(self) -> Iterator[Row]:
        """Every virtual key."""
        return self._pages("/key/list", "keys", "size", return_full_object="true")

    def teams(self) -> Iterator[Row]:
        """Every team."""
        return self._pages("/v2/team/list", "teams", "page_size")

    def users(self) -> Iterator[Row]:
        """Every user."""
        return self._pages("/user/list", "users", "page_size")

    def members(self, team_id: str) -> list[Row]:
        """The memberships of a team, each with its budget."""
        return list(self._get("/team/info", team_id=team_id).get("team_memberships") or ())

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

    def spent_by_day(self, since: date, until: date) -> Iterator[Row]:
        """What each key spent on each model group on each of these days (UTC)."""
        days = {"start_date": since.isoformat(), "end_date": until.isoformat()}
        for page in range(1, MAX_PAGES + 1):
            answer = self._get("/user/daily/activity", page=page, page_size=PAGE, **days)
            yield from answer.get("results") or ()
            if page >= (_mapping(answer.get("metadata")).get("total_pages") or 1):
                return
        raise NotAnswered(f"{self.url}/user/daily/activity has more than {MAX_PAGES} pages")

    def budgets(self) -> dict[str, Row]:
        """LiteLLM's table of budgets, by id."""
        return {row["budget_id"]: row for row in self._list("/budget/list")}

    def post(self, path: str, body: Row) -> None:
        """Change something."""
        self._ask(Request(self.url + path, json.dumps(body).encode(), self._headers))

    def _pages(self, path: str, name: str, size: str, **query: str) -> Iterator[Row]:
        for page in range(1, MAX_PAGES + 1):
            answer = self._get(path, page=page, **{size: PAGE}, **query)
            yield from answer.get(name) or ()
            if page >= (answer.get("total_pages") or 1):
                return
        raise NotAnswered(f"{self.url}{path} has more than {MAX_PAGES} pages")

    def _list(self, path: str) -> list[Row]:
        found = self._get(path)
        return found if isinstance(found, list) else []

    def _get(self, path: str, **query: object) -> Any:
        asked = f"?{urlencode(query)}" if query else ""
        return self._ask(Request(f"{self.url}{path}{asked}", headers=self._headers))

    def _ask(self, request: Request) -> Any:
        try:
            with urlopen(request, timeout=ANSWER_WITHIN_SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise NotAnswered(f"{request.selector.partition('?')[0]}: {_words_of(error)}") from None
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise NotAnswered(f"no proxy answers at {self.url}: {reason}") from None
        except ValueError:
            raise NotAnswered(f"{self.url} answers no JSON; is it a LiteLLM proxy?") from None


def _mapping(value: object) -> Row:
    return value if isinstance(value, dict) else {}


def _words_of(error: HTTPError) -> str:
    body = error.read().decode(errors="replace")
    try:
        told = json.loads(body)
        told = told.get("error", told.get("detail", told))
        told = told.get("message", told.get("error", told)) if isinstance(told, dict) else told
    except (ValueError, AttributeError):
        told = body
    return f"{str(told)[:_MAX_WORDS]} ({error.code})"
