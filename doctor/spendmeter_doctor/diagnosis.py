"""What a check says: a code for programs, what is wrong for people, and the fix."""

import re
from enum import StrEnum
from typing import NamedTuple

_FIX = re.compile(r"; |: (?=`|give |set |upgrade )")


class FindingSeverity(StrEnum):
    """How bad it is."""

    FAULT = "fault"
    """Spend would be lost or wrong, or budgets would not be enforced."""
    WARNING = "warning"
    """It works today."""
    UNCHECKED = "not checked"
    """Nothing is known of it; the fix says how to check it."""


class Diagnosis(NamedTuple):
    """One thing that is not as it should be. No part of it holds a secret."""

    severity: FindingSeverity
    code: str
    """Stays the same between versions: `topic-missing`."""
    what: str
    """What is wrong, and what that means."""
    fix: str
    """The command, or the line to add."""


def fault(code: str, what: str, fix: str) -> Diagnosis:
    return Diagnosis(FindingSeverity.FAULT, code, what, fix)


def warning(code: str, what: str, fix: str) -> Diagnosis:
    return Diagnosis(FindingSeverity.WARNING, code, what, fix)


def unchecked(code: str, what: str, fix: str) -> Diagnosis:
    return Diagnosis(FindingSeverity.UNCHECKED, code, what, fix)


def of_sentence(severity: FindingSeverity, code: str, sentence: str) -> Diagnosis:
    """One of the sentences of our processes, which end with the fix."""
    parts = _FIX.split(sentence, maxsplit=1)
    return Diagnosis(severity, code, parts[0], parts[1] if len(parts) > 1 else "see docs/operations.md")
