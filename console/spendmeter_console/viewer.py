"""Who views the page, and how much of it is theirs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What a viewer may do."""

    VIEWER = "viewer"
    EDITOR = "editor"


@dataclass(frozen=True, slots=True)
class ViewScope:
    """The part of all spend that a viewer may see: everything, or what is of these teams."""

    teams: frozenset[str] | None = None
    """None is everything; an empty set is nothing."""

    @property
    def is_everything(self) -> bool:
        return self.teams is None

    def has(self, subject: Mapping[Any, str]) -> bool:
        """Whether an account with this subject may be seen: where it names one of the teams."""
        return self.teams is None or subject.get("team") in self.teams

    def owns_budget(self, match: Mapping[Any, str]) -> bool:
        """Whether all that a budget counts is of these teams: with an account for each team it is not."""
        return self.teams is None or match.get("team") in self.teams

    def has_budget(self, match: Mapping[Any, str]) -> bool:
        """Whether a budget may be seen: one of these teams, or one that has an account for each team."""
        return self.teams is None or match.get("team") in {*self.teams, "*"}


EVERYTHING = ViewScope()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who has shown who they are, or, on loopback without sign-in, whoever is at the machine."""

    name: str
    role: Role = Role.VIEWER
    scope: ViewScope = EVERYTHING
    is_signed_in: bool = False
    """With a token of their own, so that there is something to sign out of."""
    holder: str = ""
    """Whom forms are handed to: this sign-in of this person; empty for who changes nothing."""

    @property
    def is_editor(self) -> bool:
        """Whether this person may change what is theirs, where the settings let anybody."""
        return self.role is Role.EDITOR and bool(self.holder)

    def may_change(self, match: Mapping[Any, str]) -> bool:
        """Whether this person may change a budget with that match."""
        return self.is_editor and self.scope.owns_budget(match)
