"""`spendmeter key`: virtual keys, through LiteLLM's own key API, so that it works on any LiteLLM."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import click

from spendmeter.cli.connection import stack
from spendmeter.cli.money_option import Usd
from spendmeter.cli.printing import print_json, print_table, table, usd
from spendmeter.cli.stack import dir_option, json_option
from spendmeter.contract.money import NanoUsd, format_usd, from_float_usd

ANSWER_WITHIN_SECONDS = 30
PAGE = 100

url_option = click.option("--url", envvar="SPENDMETER_PROXY_URL", help="The proxy.  [default: the stack's]")
master_key_option = click.option(
    "--master-key", envvar="SPENDMETER_MASTER_KEY", help="Its master key.  [default: the stack's]"
)


class KeyApiClient:
    """LiteLLM's key API over HTTP. Each method raises click.ClickException with the proxy's own words."""

    def __init__(self, url: str, master_key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {master_key}", "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer of a POST."""
        return self._ask(Request(self._url + path, json.dumps(body).encode(), self._headers))

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Answer of a GET."""
        return self._ask(Request(f"{self._url}{path}?{urlencode(query)}", headers=self._headers))

    def _ask(self, request: Request) -> dict[str, Any]:
        try:
            with urlopen(request, timeout=ANSWER_WITHIN_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except HTTPError as error:
            raise click.ClickException(_words_of(error)) from None
        except (URLError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            raise click.ClickException(f"no proxy answers at {self._url}: {reason}") from None


@click.group()
def key() -> None:
    """Virtual keys of a LiteLLM proxy."""


@key.command()
@click.option("--alias", required=True, help="A name for people; one key per name.")
@click.option("--user", help="Whose spend it is.")
@click.option("--team", help="Which team's.")
@click.option("--organization", help="Which organization's.")
@click.option("--max-budget", type=Usd(), metavar="USD", help="What it may spend in a budget duration.")
@click.option("--budget-duration", metavar="D", help="1h, 1d, 7d, 30d, 1mo…  [default: no end]")
@url_option
@master_key_option
@dir_option
@json_option
def create(
    alias: str,
    user: str | None,
    team: str | None,
    organization: str | None,
    max_budget: NanoUsd | None,
    budget_duration: str | None,
    url: str | None,
    master_key: str | None,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Make a key; it is shown this once."""
    asked = {
        "key_alias": alias,
        "user_id": user,
        "team_id": team,
        "organization_id": organization,
        # LiteLLM reads a number; this text is the shortest of it.
        "max_budget": None if max_budget is None else float(format_usd(max_budget)),
        "budget_duration": budget_duration,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    made = _client(url, master_key, dir_).post("/key/generate", asked)
    hashed = hashlib.sha256(made["key"].encode()).hexdigest()
    if as_json:
        names = {"alias": alias, "user": user, "team": team, "organization": organization}
        budget = {"max_budget_usd": max_budget and format_usd(max_budget), "budget_duration": budget_duration}
        given = {name: value for name, value in {**names, **budget}.items() if value is not None}
        return print_json({"key": made["key"], "hash": hashed, **given})
    click.echo(made["key"])
    return click.echo(f"hash {hashed}", err=True)


@key.command(name="list")
@url_option
@master_key_option
@dir_option
@json_option
def list_(url: str | None, master_key: str | None, dir_: Path | None, as_json: bool) -> None:
    """Every key, with what it has spent; the keys themselves are shown nowhere."""
    client = _client(url, master_key, dir_)
    found: list[dict[str, Any]] = []
    page = pages = 1
    while page <= pages:
        answer = client.get("/key/list", page=page, size=PAGE, return_full_object="true")
        found += answer["keys"]
        page, pages = page + 1, answer["total_pages"]
    if as_json:
        return print_json(found)
    columns = ("alias", "hash", "user", "team", "organization", "spent", "max budget", "resets", "status")
    rows = [
        (
            one.get("key_alias") or "-",
            one["token"][:12],
            one.get("user_id") or "-",
            one.get("team_id") or "-",
            one.get("organization_id") or one.get("org_id") or "-",
            _usd(one.get("spend")),
            _usd(one.get("max_budget")),
            one.get("budget_duration") or "-",
            one.get("status") or "-",
        )
        for one in found
    ]
    return print_table(table(columns, rows, right=("spent", "max budget")))


@key.command()
@click.argument("names", metavar="ALIAS…", nargs=-1, required=True)
@url_option
@master_key_option
@dir_option
@json_option
def delete(
    names: tuple[str, ...], url: str | None, master_key: str | None, dir_: Path | None, as_json: bool
) -> None:
    """Delete keys by alias, by hash or by themselves; their budgets go with them."""
    client = _client(url, master_key, dir_)
    by_hash = [name for name in names if _is_key_or_hash(name)]
    by_alias = [name for name in names if name not in by_hash]
    deleted: list[str] = []
    if by_hash:
        deleted += client.post("/key/delete", {"keys": by_hash})["deleted_keys"]
    if by_alias:
        deleted += client.post("/key/delete", {"key_aliases": by_alias})["deleted_keys"]
    if as_json:
        return print_json({"deleted_keys": deleted})
    return click.echo(f"deleted: {', '.join(deleted)}")


def _client(url: str | None, master_key: str | None, dir_: Path | None) -> KeyApiClient:
    if url and master_key:
        return KeyApiClient(url, master_key)
    if url:
        raise click.UsageError("--url needs --master-key: the stack's would be sent to a stranger")
    found = stack(dir_)
    return KeyApiClient(found.proxy_url, master_key or found.proxy_master_key)


def _is_key_or_hash(name: str) -> bool:
    return name.startswith("sk-") or (len(name) == 64 and all(c in "0123456789abcdef" for c in name))


def _usd(amount: float | None) -> str:
    return "-" if amount is None else usd(from_float_usd(amount))


def _words_of(error: HTTPError) -> str:
    body = error.read().decode(errors="replace")
    try:
        return f"{json.loads(body)['error']['message']} ({error.code})"
    except (ValueError, KeyError, TypeError):
        return f"the proxy answered {error.code}: {body[:500]}"
