"""`spendmeter key`: virtual keys, through LiteLLM's own key API, so that it works on any LiteLLM."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from spendmeter.cli.connection import stack
from spendmeter.cli.options import UsdOption, dir_option, json_option
from spendmeter.cli.printing import print_json, print_table, say, usd
from spendmeter.contract.money import InvalidAmount, NanoUsd, format_usd, from_float_usd
from spendmeter.litellm.api import LitellmApi, NotAnswered
from spendmeter.values.ids import is_hash

T = TypeVar("T")

url_option = click.option("--url", envvar="SPENDMETER_PROXY_URL", help="The proxy.  [default: the stack's]")
master_key_option = click.option(
    "--master-key", envvar="SPENDMETER_MASTER_KEY", help="Its master key.  [default: the stack's]"
)


@click.group()
def key() -> None:
    """Virtual keys of a LiteLLM proxy."""


@key.command()
@click.option("--alias", required=True, help="A name for people; one key per name.")
@click.option("--user", help="Whose spend it is.")
@click.option("--team", help="Which team's.")
@click.option("--organization", help="Which organization's.")
@click.option("--max-budget", type=UsdOption(), metavar="USD", help="What it may spend in a budget duration.")
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
    """Make a key; it is shown only this once."""
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
    api = _api(url, master_key, dir_)
    made = _answer(partial(api.post, "/key/generate", asked)).get("key")
    if not isinstance(made, str):
        raise click.ClickException(f"{api.url} made no key; is it a LiteLLM proxy?")
    hashed = hashlib.sha256(made.encode()).hexdigest()
    if as_json:
        names = {"alias": alias, "user": user, "team": team, "organization": organization}
        budget = {"max_budget_usd": max_budget and format_usd(max_budget), "budget_duration": budget_duration}
        given = {name: value for name, value in {**names, **budget}.items() if value is not None}
        return print_json({"key": made, "hash": hashed, **given})
    say(made)
    return say(f"hash {hashed}", err=True)


@key.command(name="list")
@url_option
@master_key_option
@dir_option
@json_option
def list_(url: str | None, master_key: str | None, dir_: Path | None, as_json: bool) -> None:
    """List every key with its spend; the keys themselves are never shown."""
    api = _api(url, master_key, dir_)
    found = _answer(lambda: list(api.virtual_keys()))
    if as_json:
        return print_json(found)
    columns = ("alias", "hash", "user", "team", "organization", "spent", "max budget", "resets", "status")
    rows = [
        (
            str(one.get("key_alias") or "-"),
            str(one["token"])[:12],
            str(one.get("user_id") or "-"),
            str(one.get("team_id") or "-"),
            str(one.get("organization_id") or one.get("org_id") or "-"),
            _usd(one.get("spend")),
            _usd(one.get("max_budget")),
            str(one.get("budget_duration") or "-"),
            str(one.get("status") or "-"),
        )
        for one in found
    ]
    return print_table(
        columns,
        rows,
        right=("spent", "max budget"),
        whole=("hash",),
        spare=("status", "resets", "organization", "hash"),
    )


@key.command()
@click.argument("names", metavar="ALIAS…", nargs=-1, required=True)
@url_option
@master_key_option
@dir_option
@json_option
def delete(
    names: tuple[str, ...], url: str | None, master_key: str | None, dir_: Path | None, as_json: bool
) -> None:
    """Delete keys by alias, by hash or by the key itself, together with their budgets."""
    api = _api(url, master_key, dir_)
    by_hash = [name for name in names if _is_key_or_hash(name)]
    by_alias = [name for name in names if name not in by_hash]
    deleted: list[str] = []
    for field, some in (("keys", by_hash), ("key_aliases", by_alias)):
        if some:
            answer = _answer(partial(api.post, "/key/delete", {field: some}))
            deleted += map(str, answer.get("deleted_keys") or ())
    if as_json:
        return print_json({"deleted_keys": deleted})
    return say(f"deleted: {', '.join(deleted)}")


def _api(url: str | None, master_key: str | None, dir_: Path | None) -> LitellmApi:
    if url and not master_key:
        raise click.UsageError("--url needs --master-key: the stack's would be sent to a stranger")
    if not url or not master_key:
        found = stack(dir_)
        url, master_key = found.proxy_url, master_key or found.proxy_master_key
    return _answer(partial(LitellmApi, url, master_key))


def _answer(question: Callable[[], T]) -> T:
    try:
        return question()
    except NotAnswered as error:
        raise click.ClickException(str(error)) from None


def _is_key_or_hash(name: str) -> bool:
    return name.startswith("sk-") or is_hash(name)


def _usd(amount: object) -> str:
    if not isinstance(amount, int | float):
        return "-" if amount is None else str(amount)
    try:
        return usd(from_float_usd(amount))
    except InvalidAmount:
        return str(amount)
