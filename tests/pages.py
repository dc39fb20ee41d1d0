"""Pages with a part that a make target writes: between two marks, which name the target."""


def part(page: str, target: str) -> str:
    """What `make TARGET` wrote into the page. Raises ValueError: the page has no such part."""
    return _split(page, target)[1]


def rewritten(page: str, target: str, text: str) -> str:
    """The page with that text as the target's part. Raises ValueError: the page has no such part."""
    before, _, after = _split(page, target)
    return before + text + after


def _split(page: str, target: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {target}: written by `make {target}` -->\n", f"<!-- end of {target} -->\n"
    before, found_begin, rest = page.partition(begin)
    text, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no part between {begin.strip()} and {end.strip()}")
    return before + begin, text, end + after
