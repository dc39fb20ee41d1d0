"""Parses ClickHouse statements just enough to separate an insert's data from its SQL."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_STATEMENT_BYTES = 1_000_000  # where the data of an insert must have begun

# In order: quoted strings and names (backslash and doubled-quote escapes), heredocs, comments, keywords,
# others.
_TOKEN = re.compile(
    rb"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\""
    rb"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    rb"|--[^\n]*|#[ !][^\n]*|/\*.*?\*/|[A-Za-z_][A-Za-z0-9_]*|\s+|.",
    re.DOTALL,
)
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`", re.DOTALL)
_DATA_START = re.compile(rb"[ \t]*;?[ \t]*\r?\n?")
_RETURNS_ROWS = frozenset(
    {"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "FROM"}
)


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert that carries its rows: the SQL up to its FORMAT or VALUES, the format, the rows."""

    sql: str
    format: str
    rows: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Any other statement. `verb` is its first word in capitals, `format` the format that it names,
    if any.
    """

    sql: str
    verb: str
    format: str | None

    @property
    def returns_rows(self) -> bool:
        return self.verb in _RETURNS_ROWS


def read_statement(text: bytes) -> Insert | Query:
    """Recognise an insert with rows in `text`; everything else is a query.

    `INSERT … SELECT`, `INSERT … FROM INFILE` and inserts into which rows cannot follow are queries.
    Raises UnicodeDecodeError if the SQL itself is not UTF-8.
    """
    words = _tokens_outside_parentheses(text)
    first = next(words, None)
    if first is None or first[0] != b"INSERT":
        return _query(text, first[0] if first else b"")
    for word, _, end in words:
        if word in (b"SELECT", b"WITH", b"INFILE"):
            break
        if word == b"VALUES":
            return Insert(text[: end - len(word)].decode(), "Values", text[end:])
        if word == b"FORMAT":
            name, _, after = next(words, (b"", end, end))
            if not name:
                break
            spelled = text[after - len(name) : after].decode()
            rows = _DATA_START.match(text, after)
            assert rows is not None  # it matches the empty string too
            return Insert(text[: end - len(word)].decode(), spelled, text[rows.end() :])
    return _query(text, b"INSERT")


def without_literals(parsed: str) -> str:
    """A statement as the engine's parser writes it, its texts and quoted names empty."""
    return _LITERAL.sub("''", parsed)


def _query(text: bytes, first: bytes) -> Query:
    sql = text.decode().strip().rstrip(";").rstrip()
    named = re.search(r"\bFORMAT\s+([A-Za-z]\w*)(?:\s+SETTINGS\b[^()]*)?$", sql, re.IGNORECASE)
    return Query(sql, first.decode(), named.group(1) if named else None)


def _tokens_outside_parentheses(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each word in capitals, with where it starts and ends."""
    depth = 0
    for token in _TOKEN.finditer(text, 0, MAX_STATEMENT_BYTES):
        found = token.group()
        if found == b"(":
            depth += 1
        elif found == b")":
            depth -= 1
        elif depth == 0 and (found[:1].isalpha() or found[:1] == b"_"):
            yield found.upper(), token.start(), token.end()
