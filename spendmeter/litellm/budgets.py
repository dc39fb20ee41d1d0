"""Turns the limits of LiteLLM's objects into our budgets. Pure.

Every gateway makes the same budgets from the same object, at any time: only the end of a
temporary increase depends on the clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import ValidationError

from spendmeter.budgets.file import InvalidBudgetFile, read_budgets
from spendmeter.budgets.plan import BudgetPlan, plan
from spendmeter.contract.budget import Action, Budget, Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import render_validation_error
from spendmeter.litellm.entities import METADATA_BUDGET, LitellmEntity, slug
from spendmeter.litellm.values import InvalidLimit, Term, amount_of, term_of, time_of

Adopt = Literal["native", "metadata", "both", "off"]
MAX_METADATA_BUDGETS = 20
METADATA = "metadata"
"""The part of an id that marks a budget from metadata."""


class Adopted(NamedTuple):
    """The budgets of one object."""

    seen: LitellmEntity
    budgets: tuple[Budget, ...] = ()
    problems: tuple[str, ...] = ()
    """The object and what is wrong; one for each part in `unread`."""
    unread: frozenset[str] = frozenset()
    """Parts that could not be read: their budgets in force stay."""


def adopted(seen: LitellmEntity, adopt: Adopt, now: datetime) -> Adopted:
    """The budgets that an object has."""
    budgets: list[Budget] = []
    problems: list[str] = []
    unread: set[str] = set()
    parts = (
        ("", adopt in ("native", "both") and seen.shows_limits, _own),
        ("window", adopt in ("native", "both") and seen.shows_limits, _windows),
        ("model", adopt in ("native", "both") and seen.shows_limits, _models),
        (METADATA, adopt in ("metadata", "both"), _in_metadata),
    )
    for part, is_read, read in parts:
        if not is_read:
            unread.add(part)
            continue
        try:
            budgets += list(read(seen, now))
        except InvalidLimit as problem:
            problems.append(f"{seen.description}: {problem}")
            unread.add(part)
    return Adopted(seen, tuple(budgets), tuple(problems), frozenset(unread))


def part_of(budget_id: str, owner: str) -> str:
    """The part of an object that a budget comes from: `window`, `model`, `metadata`, or its own limit."""
    return budget_id.removeprefix(owner).removeprefix(":").partition(":")[0]


def _own(seen: LitellmEntity, now: datetime) -> Iterator[Budget]:
    """The limit of the object itself; a soft one alone only warns."""
    aside = seen.taken_over if isinstance(seen.taken_over, Mapping) else {}
    is_aside = seen.max_budget is None and aside.get("max_budget") is not None
    limit = amount_of("max_budget", aside["max_budget"] if is_aside else seen.max_budget)
    soft = amount_of(
        "soft_budget", seen.soft_budget if seen.soft_budget is not None else aside.get("soft_budget")
    )
    if limit is None and not soft:
        return
    term = term_of("budget_duration", seen.budget_duration, seen.budget_reset_at, seen.timezone, now)
    if limit is None:
        yield _budget(seen, "", term, now, limit_nanousd=soft, action=Action.WARN)
        return
    until = _until(seen, now)
    raises: dict[str, Any] = {}
    if until is not None:
        more = amount_of("temp_budget_increase", seen.temp_budget_increase) or NanoUsd(0)
        limit = NanoUsd(limit - more) if seen.is_raised and not is_aside else limit
        raises = {"raises": (Raise(amount_nanousd=more, until=until),)} if more > 0 else {}
    warn_at = (soft / limit,) if soft and 0 < soft < limit else None
    yield _budget(seen, "", term, now, limit_nanousd=limit, warn_at=warn_at, **raises)


def _windows(seen: LitellmEntity, now: datetime) -> Iterator[Budget]:
    """`budget_limits`: several windows on one key or team."""
    for one in _list(seen.budget_limits) or _list(_aside(seen, "budget_limits")):
        given = one if isinstance(one, Mapping) else {}
        limit = amount_of("budget_limits.max_budget", given.get("max_budget"))
        if limit is not None:
            duration = given.get("budget_duration")
            term = term_of(
                "budget_limits.budget_duration", duration, given.get("reset_at"), seen.timezone, now
            )
            yield _budget(seen, f":window:{slug(str(duration))}", term, now, limit_nanousd=limit)


def _models(seen: LitellmEntity, now: datetime) -> Iterator[Budget]:
    """`model_max_budget`: a limit for each model, by its requested name."""
    given = seen.model_max_budget or _aside(seen, "model_max_budget")
    if given is not None and not isinstance(given, Mapping):
        raise InvalidLimit("model_max_budget is a mapping of models to budget_limit and time_period")
    for model, one in (given or {}).items():
        fields = one if isinstance(one, Mapping) else {"budget_limit": one}
        limit = amount_of("model_max_budget", fields.get("budget_limit", fields.get("max_budget")))
        if limit is not None:
            duration = fields.get("time_period", fields.get("budget_duration"))
            term = term_of("model_max_budget.time_period", duration, None, seen.timezone, now)
            of_model = {"match": seen.match | {"model_group": str(model)}, "limit_nanousd": limit}
            yield _budget(seen, f":model:{slug(str(model))}", term, now, **of_model)


def _in_metadata(seen: LitellmEntity, now: datetime) -> Iterator[Budget]:
    """`spendmeter_budget`: one budget or a list, with the fields and rules of a budget file."""
    given = seen.metadata_budget
    if given is None:
        return
    wanted = given if isinstance(given, list) else [given]
    if len(wanted) > MAX_METADATA_BUDGETS:
        raise InvalidLimit(
            f"metadata.{METADATA_BUDGET} has {len(wanted)} budgets; {MAX_METADATA_BUDGETS} are read"
        )
    items = [_item(seen, number, one) for number, one in enumerate(wanted, 1)]
    try:
        written = yaml.safe_dump({"budgets": items}, sort_keys=False, allow_unicode=True)
        yield from read_budgets(written, METADATA_BUDGET, now)
    except InvalidBudgetFile as error:
        problems = "; ".join(problem.message for problem in error.problems)
        raise InvalidLimit(f"metadata.{METADATA_BUDGET}: {problems}") from None
    except yaml.YAMLError:
        raise InvalidLimit(f"metadata.{METADATA_BUDGET} holds a value that is no text or number") from None


def _item(seen: LitellmEntity, number: int, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidLimit(f"metadata.{METADATA_BUDGET} is a budget, such as {{limit_usd: 5, period: day}}")
    if "id" in given:
        raise InvalidLimit(f"metadata.{METADATA_BUDGET}: leave out id, it is made of the {seen.kind}'s")
    more = given.get("match") or {}
    if not isinstance(more, Mapping) or set(more) & set(seen.match):
        raise InvalidLimit(
            f"metadata.{METADATA_BUDGET}: match narrows the budget, such as {{model_group: gpt-4o}};"
            f" that it is the {seen.kind}'s is said already"
        )
    if "replaces" in given:
        # Otherwise, people who make keys for themselves could lift every other budget.
        raise InvalidLimit(f"metadata.{METADATA_BUDGET}: replaces is for budget files only; leave it out")
    budget_id = f"{seen.owner}:{METADATA}" + (f":{number}" if number > 1 else "")
    return {**given, "id": budget_id, "match": {**seen.match, **more}}


def _budget(seen: LitellmEntity, part: str, term: Term, now: datetime, **fields: Any) -> Budget:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return Budget.model_validate(
            {"match": seen.match, **given, **term._asdict(), "id": seen.owner + part, "updated_at": now}
        )
    except ValidationError as error:
        raise InvalidLimit(render_validation_error(error)) from None


def _until(seen: LitellmEntity, now: datetime) -> datetime | None:
    """When the temporary increase ends; None if there is none, or none any more."""
    if seen.temp_budget_increase is None or seen.temp_budget_expiry is None:
        return None
    until = time_of("temp_budget_expiry", seen.temp_budget_expiry)
    return until if now < until else None


def _aside(seen: LitellmEntity, name: str) -> object:
    return seen.taken_over.get(name) if isinstance(seen.taken_over, Mapping) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


ADOPTED_BY = "LiteLLM"
"""The author of adopted budgets in history."""
_KEPT_WITHOUT_A_MARK = ("member", "end_user", "tag")
"""Kinds without metadata: only the author of our budget shows that a limit was moved aside."""


def changes(found: Adopted, in_force: Iterable[Budget], now: datetime) -> BudgetPlan:
    """The changes that bring the object's budgets into force; `in_force` are those that it has now.

    A budget that LiteLLM no longer has is removed, unless LiteLLM just does not show it. Resets, pauses and
    raises that people have set here stay; its limit and windows are LiteLLM's.
    """
    existing = {budget.id: budget for budget in in_force}
    made = plan(existing, found.budgets, now)
    removed = [budget for budget in made.left if _is_gone(found, budget)]
    return made._replace(removed=removed, left=[budget for budget in made.left if budget not in removed])


def is_nothing(made: BudgetPlan) -> bool:
    """Whether nothing is left to do."""
    return not (made.created or made.changed or made.removed)


def _is_gone(found: Adopted, budget: Budget) -> bool:
    if part_of(budget.id, found.seen.owner) in found.unread:
        return False
    return found.seen.kind not in _KEPT_WITHOUT_A_MARK or budget.updated_by == ADOPTED_BY
