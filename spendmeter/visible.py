"""Text that comes from elsewhere, shown so that nothing in it acts on a terminal or forges a line. Pure."""

import re
import unicodedata


def visible(text: str, keep: str = "") -> str:
    """The text with each character that is not to be seen written out, such as `\\x1b` and `\\u202e`.

    Args:
        keep: unprintable characters that stay, such as a line break where the lines are ours.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_seen(c) or c in keep else _escaped(c) for c in text)


def visible_json(written: str) -> str:
    """JSON that says the same, with each such character in its strings as `\\uXXXX`; its line breaks stay."""
    if written.isprintable():
        return written
    return "".join(c if _is_seen(c) or c == "\n" else _json_escaped(c) for c in written)


def one_line(text: str) -> str:
    """Like `visible`, with every run of white space as one space: for messages of other programs."""
    return visible(re.sub(r"\s+", " ", text).strip())


def _is_seen(character: str) -> bool:
    # Python calls every space but one unprintable, too. What is left are control characters, those that turn
    # the direction of writing, have no width or break lines, and halves of surrogate pairs.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
