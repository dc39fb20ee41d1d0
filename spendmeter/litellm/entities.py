"""LiteLLM's objects that may have a budget, and the spend that the budget limits. Pure."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple

Kind = Literal["proxy", "key", "team", "member", "user", "organization", "project", "end_user", "tag"]
DIMENSIONS: dict[Kind, tuple[str, ...]] = {
    "proxy": (),
    "key": ("key",),
    "team": ("team",),
    "member": ("team", "user"),
    "user": ("user",),
    "organization": ("organization",),
    "project": ("project",),
    "end_user": ("end_user",),
    "tag": ("tag",),
}
"""The dimensions that match each kind's spend, in the order of its names."""

PREFIX = "litellm"
METADATA_BUDGET = "spendmeter_budget"
"""In the metadata of a key or team: budgets that LiteLLM cannot express."""
TAKEN_OVER = "spendmeter_taken_over"
"""In metadata: LiteLLM's own limits, moved aside by `import litellm --take-over`."""

LIMITS = (
    "max_budget",
    "soft_budget",
    "budget_duration",
    "budget_reset_at",
    "budget_limits",
    "model_max_budget",
)
"""LiteLLM's names for its limits, wherever it keeps them; fields of `LitellmEntity`."""

_PLAIN = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._@-]*")
_MAX_PLAIN = 80
_DIGITS_OF_OTHERS = 32


class LitellmEntity(NamedTuple):
    """One object. The values are LiteLLM's, unparsed, so that comparing two objects is very cheap."""

    kind: Kind
    names: tuple[str, ...]
    """A key's hash, a member's team and user, else the id; one for each of the kind's dimensions."""
    max_budget: object = None
    soft_budget: object = None
    budget_duration: object = None
    budget_reset_at: object = None
    budget_limits: object = None
    model_max_budget: object = None
    temp_budget_increase: object = None
    temp_budget_expiry: object = None
    metadata_budget: object = None
    taken_over: object = None
    is_raised: bool = False
    """Whether `max_budget` already includes the temporary increase."""
    shows_limits: bool = True
    """Whether LiteLLM shows its limits here; if not, it may have some or none."""
    timezone: str = "UTC"
    """The time zone of LiteLLM's resets (`litellm_settings.timezone`)."""
    alias: str = ""
    """Its name for people."""

    @property
    def owner(self) -> str:
        """The prefix of the ids of all its budgets: `litellm:team:red`."""
        return ":".join((PREFIX, self.kind, _name(self.names))) if self.names else f"{PREFIX}:{self.kind}"

    @property
    def match(self) -> dict[str, str]:
        """Whose spend is added up."""
        return dict(zip(DIMENSIONS[self.kind], self.names, strict=True))

    @property
    def description(self) -> str:
        """For people: `key vip (88dc28d0f030…)`, `member ann of team red`."""
        if self.kind == "member":
            return f"member {self.names[1]} of team {self.names[0]}"
        shown = " ".join((self.kind.replace("_", " "), *([self.alias] if self.alias else []), *self.names))
        return shown.replace(self.names[-1], f"({self.names[-1]})") if self.alias and self.names else shown


def from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LitellmEntity` that are in an object's metadata."""
    return {
        "metadata_budget": metadata.get(METADATA_BUDGET),
        "taken_over": metadata.get(TAKEN_OVER),
    }


def limits_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LitellmEntity` that LiteLLM calls its limits."""
    return {name: fields.get(name) for name in LIMITS}


def is_limit_of_all(user: Mapping[str, Any], *, users_pay_for_teams: bool) -> bool:
    """Whether a user's limit is for all of the user's spend, as ours would be.

    `users_pay_for_teams`: LiteLLM's `general_settings.apply_user_budget_to_team_keys`. Without it the limit
    leaves out spend through teams, and no `match` can do that.
    """
    return users_pay_for_teams or not user.get("teams")


def user_seen(
    fields: Mapping[str, Any], user: str, timezone: str, *, users_pay_for_teams: bool
) -> LitellmEntity:
    """A user; without limits if these would mean something else here (`is_limit_of_all`)."""
    if not is_limit_of_all(fields, users_pay_for_teams=users_pay_for_teams):
        return LitellmEntity("user", (user,), timezone=timezone)
    taken_over = from_metadata(mapping(fields.get("metadata")))["taken_over"]
    return LitellmEntity("user", (user,), **limits_of(fields), taken_over=taken_over, timezone=timezone)


def tabled_seen(
    kind: Kind, names: tuple[str, ...], table: Mapping[str, Any], timezone: str, taken_over: object = None
) -> LitellmEntity:
    """An object whose limits are in LiteLLM's budget table."""
    return LitellmEntity(
        kind,
        names,
        **limits_of(table),
        temp_budget_increase=table.get("temp_budget_increase"),
        temp_budget_expiry=table.get("temp_budget_expiry"),
        taken_over=taken_over,
        timezone=timezone,
    )


def key_seen(fields: Mapping[str, Any], key: str, timezone: str, *, is_raised: bool) -> LitellmEntity:
    """A virtual key; `is_raised`: the limit in these fields includes the temporary increase."""
    metadata = mapping(fields.get("metadata"))
    alias = fields.get("key_alias")
    return LitellmEntity(
        "key",
        (key,),
        **limits_of(fields),
        **from_metadata(metadata),
        temp_budget_increase=metadata.get("temp_budget_increase"),
        temp_budget_expiry=metadata.get("temp_budget_expiry"),
        is_raised=is_raised,
        timezone=timezone,
        alias=alias if isinstance(alias, str) else "",
    )


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object of LiteLLM's; an empty one if it shows none."""
    return value if isinstance(value, Mapping) else {}


def owner_of(budget_id: str) -> str | None:
    """The object that a budget was made for; None if it does not come from LiteLLM."""
    parts = budget_id.split(":", 3)
    if parts[0] != PREFIX or len(parts) < 2:
        return None
    return ":".join(parts[:2] if parts[1] == "proxy" else parts[:3])


def slug(text: str) -> str:
    """A part of an id: the text if it is valid in an id, else its hash."""
    if len(text) <= _MAX_PLAIN and _PLAIN.fullmatch(text):
        return text
    return "@" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS_OF_OTHERS]


def _name(names: tuple[str, ...]) -> str:
    return "/".join(slug(name) for name in names)
