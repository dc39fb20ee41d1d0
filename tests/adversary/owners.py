"""Who sends requests: keys, users, teams and tags, and what their budgets forbid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Call = Mapping[str, Any]

# The provider and the group of an upstream call, by path and model: what the configuration says.
_OPENAI = (
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "gpt-image-1",
    "gpt-4o-mini-transcribe",
    "tts-1",
)


@dataclass(frozen=True, slots=True)
class Owner:
    """One key, with who it belongs to."""

    name: str
    key: str
    key_hash: str
    user: str | None
    team: str | None = None
    is_victim: bool = False
    """It never sends anything."""
    spent: str = ""
    """Of which kind its spent budget is; empty for none."""
    strict_limit_nanousd: int | None = None
    spent_nanousd: int = 0
    """Before the batch."""

    def forbids(self, call: Call) -> bool:
        """Whether a spent budget of this owner should have refused the upstream's call."""
        return bool(self.spent) and SPENT[self.spent](call)


def _is_openai(call: Call) -> bool:
    return call["model"] in _OPENAI and "/deployments/" not in call["path"]


def _is_group_gpt_4o(call: Call) -> bool:
    return call["model"] == "gpt-4o" and "/deployments/" not in call["path"]


def _is_model_gpt_4o(call: Call) -> bool:
    return bool(call["model"] == "gpt-4o")


def _is_any(_: Call) -> bool:
    return True


SPENT: Mapping[str, Callable[[Call], bool]] = {
    "user": _is_any,
    "key": _is_any,
    "team": _is_any,
    "tag": _is_any,
    "provider": _is_openai,
    "model_group": _is_group_gpt_4o,
    "model": _is_model_gpt_4o,
}
"""The kinds of spent budgets, each with the calls that it forbids where they cost something."""


def budgets_of(kind: str, user: str, team: str, key_hash: str) -> Mapping[str, str]:
    """What a spent budget of that kind matches."""
    return {
        "user": {"user": user},
        "key": {"key": key_hash},
        "team": {"team": team},
        "tag": {"user": user, "tag": "house-tag"},
        "provider": {"user": user, "provider": "openai"},
        "model_group": {"user": user, "model_group": "gpt-4o"},
        "model": {"user": user, "model": "gpt-4o"},
    }[kind]
