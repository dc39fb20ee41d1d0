"""The people who may sign in: read from a file of the operator's, and again whenever that changes.

people:
  - name: ann
    token_sha256: 5f1c…        # `spendmeter web token ann` makes the token and this line
    role: editor               # viewer by default
  - name: bert
    token_sha256: 09ab…
    teams: [red, blue]         # sees these teams and nothing else
"""

import hmac
import logging
import re
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import yaml

from spendmeter.files.scalars import Wrong, one_of, text
from spendmeter.files.text import read_text_file
from spendmeter.files.yaml import InvalidFile, Problem, YamlReader, line_of
from spendmeter_console.viewer import Role, Viewer, ViewScope

log = logging.getLogger(__name__)

TOKEN_BYTES = 32
TOKEN_PREFIX = "spm-"
MAX_PEOPLE = 10_000
MAX_NAME_CHARS = 200
_FIELDS = ("name", "token_sha256", "role", "teams")
_HASH = re.compile(r"[0-9a-f]{64}")


class Person(NamedTuple):
    """One who may sign in."""

    name: str
    token_hash: str
    """SHA-256 of the token, in hex; empty for one whom only a trusted proxy names. A token is 256 random
    bits, so a slow hash would add nothing."""
    role: Role
    scope: ViewScope


class InvalidPeopleFile(InvalidFile):
    """The file cannot be used; nobody in it can sign in."""


def new_token() -> str:
    """A token that nobody guesses."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_people(written: str, name: str) -> list[Person]:
    """The people of a file. `name` is what its problems are reported under.

    Raises:
        InvalidPeopleFile: anything is wrong with any of them.
    """
    reader = YamlReader()
    people = list(_people(reader, written))
    _report_repeats(people, reader)
    if reader.problems:
        raise InvalidPeopleFile(name, reader.problems)
    return [person for person, _ in people]


def _people(reader: YamlReader, written: str) -> Iterator[tuple[Person, yaml.Node]]:
    nodes = reader.items(written, "people")
    if len(nodes) > MAX_PEOPLE:
        reader.problems.append(Problem(1, f"there are more than {MAX_PEOPLE:,} people; name fewer"))
        return
    for node in nodes:
        fields = reader.mapping(node, "a person", _FIELDS)
        try:
            name, token_hash = (_text(fields, one) for one in ("name", "token_sha256"))
            role = Role(one_of(fields["role"], [*Role])) if "role" in fields else Role.VIEWER
        except Wrong as wrong:
            reader.report(node, str(wrong))
            continue
        if not name or len(name) > MAX_NAME_CHARS:
            reader.report(
                node, f"a person has a name of 1 to {MAX_NAME_CHARS} characters, such as `name: ann`"
            )
        elif token_hash and not _HASH.fullmatch(token_hash):
            reader.report(node, "token_sha256 is 64 hexadecimal digits; `spendmeter web token` makes it")
        else:
            yield Person(name, token_hash, role, _scope(reader, fields)), node


def _scope(reader: YamlReader, fields: dict[str, yaml.Node]) -> ViewScope:
    if "teams" not in fields:
        return ViewScope()
    try:
        return ViewScope(frozenset(text(node) for node in reader.sequence(fields["teams"], "teams")))
    except Wrong as wrong:
        reader.report(fields["teams"], f"a team {wrong}")
        return ViewScope(frozenset())


def _text(fields: dict[str, yaml.Node], name: str) -> str:
    try:
        return text(fields[name]) if name in fields else ""
    except Wrong as wrong:
        raise Wrong(f"{name} {wrong}") from None


def _report_repeats(people: list[tuple[Person, yaml.Node]], reader: YamlReader) -> None:
    seen: set[str] = set()
    for person, node in people:
        for one in filter(None, (f"name {person.name!r}", person.token_hash)):
            if one in seen:
                what = "this token" if one == person.token_hash else one
                reader.problems.append(
                    Problem(line_of(node), f"{what} stands twice; each person has their own")
                )
            seen.add(one)


class People:
    """Who may sign in by now."""

    def __init__(self, path: Path | None) -> None:
        """Raises InvalidPeopleFile, UnreadableFile, OSError: the file cannot be used."""
        self._path = path
        self._people: list[Person] = []
        self._stamp: tuple[int, int] | None = None
        if path is not None:
            self._stamp = _stamp_of(path)
            self._people = read_people(read_text_file(path), str(path))

    def by_token(self, token: str) -> Person | None:
        """The person with this token. The time needed is the same for everybody, and for nobody."""
        wanted, found = hash_of(token), None
        for person in self._now():
            if hmac.compare_digest(person.token_hash or "-", wanted):
                found = person
        return found

    def by_name(self, name: str) -> Person | None:
        """The person of this name: for who has shown who they are already."""
        return next((person for person in self._now() if person.name == name), None)

    def _now(self) -> list[Person]:
        """A file that has become unusable changes nothing: nobody gets in by it."""
        if self._path is not None:
            try:
                stamp = _stamp_of(self._path)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._people = read_people(read_text_file(self._path), str(self._path))
            except (OSError, ValueError) as error:
                log.error("people stay as they were: %s", error)
        return self._people


def viewer_of(person: Person) -> Viewer:
    """The person as the rest of the page knows them."""
    return Viewer(person.name, person.role, person.scope, is_signed_in=bool(person.token_hash))


def _stamp_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
