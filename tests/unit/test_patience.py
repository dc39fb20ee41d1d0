"""No test's wait for a condition is shorter than a crowded machine needs."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
LEAST_SECONDS = 30
WAITS = ("wait_until", "asyncio.timeout", "asyncio.wait_for", "asyncio.wait", "asyncio.to_thread")
VERBS = ("get", "post", "put", "delete", "request", "stream")
ON_PURPOSE = {
    # What the adversary promises about the gateway; tests give it more.
    "adversary/world.py: SETTLES_WITHIN_SECONDS = 6.0",
    # Short is what is tested: it has not ended by then.
    "unit/producers/objects/test_follower.py: asyncio.wait_for(asyncio.shield(running), 1.2)",
}


def short_waits(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(float() | int() as seconds)):
                if name.endswith("WITHIN_SECONDS") and seconds < LEAST_SECONDS:
                    yield ast.unparse(node)
            case ast.Call(func=called) if ast.unparse(called) in WAITS:
                named = [one.value for one in node.keywords if one.arg in ("timeout", "timeout_seconds")]
                bounds = [one.value for one in (*node.args, *named) if isinstance(one, ast.Constant)]
                if any(isinstance(one, float | int) and one < LEAST_SECONDS for one in bounds):
                    yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(ast.Name("httpx"), verb)) if verb in VERBS:
                if not any(one.arg in ("timeout", None) for one in node.keywords):
                    yield f"{ast.unparse(node)} waits 5 s"


def test_no_wait_is_shorter_than_a_crowded_machine_needs() -> None:
    found = {
        f"{file.relative_to(TESTS).as_posix()}: {wait}"
        for file in TESTS.rglob("*.py")
        for wait in short_waits(file)
    }

    assert found - ON_PURPOSE == set(), "tests/patience.py has a bound for all"
    assert ON_PURPOSE - found == set(), "no such wait is there any more"
