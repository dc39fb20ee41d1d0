"""Who is signed in: in memory, so a restart signs everybody out, and a sign-out is one at once."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from spendmeter_console.access.people import People, Person

MAX_SESSIONS = 10_000
_ID_BYTES = 32


class _Session(NamedTuple):
    name: str
    token_hash: str
    ends: float


class Sessions:
    """By the hash of what the cookie holds, so that neither memory nor timing shows a cookie."""

    def __init__(self, people: People, hours: float, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._people = people
        self._seconds = hours * 3600
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, person: Person) -> str:
        """A session of its own; returns what the cookie shall hold."""
        session_id = secrets.token_urlsafe(_ID_BYTES)
        ends = self._clock() + self._seconds
        self._sessions[_kept(session_id)] = _Session(person.name, person.token_hash, ends)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session_id

    def person_of(self, session_id: str) -> Person | None:
        """Whose session that is: nobody's once it has ended, or the person has gone or has another token."""
        session = self._sessions.get(_kept(session_id))
        if session is None:
            return None
        person = self._people.by_name(session.name)
        if self._clock() >= session.ends or person is None or person.token_hash != session.token_hash:
            self.end(session_id)
            return None
        return person

    def end(self, session_id: str) -> None:
        """Sign out."""
        self._sessions.pop(_kept(session_id), None)


def _kept(session_id: str) -> str:
    return sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
