"""Clients that leave: what the provider bills is spend all the same."""

import httpx
import pytest

from tests.regression.litellm.person import Person
from tests.regression.litellm.stack import ASK_COSTS, Stack, until


@pytest.mark.parametrize(
    ("path", "prices"),
    [
        pytest.param("/v1/chat/completions", (150, 600), id="14457"),
        pytest.param("/v1/messages", (3_000, 15_000), id="35958"),
    ],
)
def test_14457_and_35958_a_stream_that_the_client_left_is_spend(
    stack: Stack, path: str, prices: tuple[int, int]
) -> None:
    """Used to: an interrupted stream left no row: free tokens for whoever hung up before the end."""
    person = Person(stack)
    with person.streams("in=100 out=200 chunks=100 chunk_delay_ms=100", path=path) as stream:
        lines = stream.iter_lines()
        seen = [next(lines) for _ in range(20)]
    assert any(seen)

    until(lambda: person.history()[0] == 1, person.history)
    _, nanousd = person.history()
    # Estimated from what was delivered: some input, some output, and not the whole answer.
    assert prices[0] + prices[1] <= nanousd < 100 * prices[0] + 200 * prices[1]
    (event,) = stack.history.query(
        "SELECT estimated, output_tokens FROM usage FINAL WHERE key = {key:String}",
        parameters={"key": person.hash},
    ).result_rows
    assert event[0]
    assert event[1] >= 1
    person.knows(stack.first, nanousd)


def test_13245_an_answer_that_the_client_did_not_wait_for_is_spend_in_full(stack: Stack) -> None:
    """Used to: a client that left before the answer paid for its input only."""
    person = Person(stack)
    with pytest.raises(httpx.ReadTimeout):
        stack.http.post(
            f"{stack.first.url}/v1/chat/completions",
            json=person.body("in=1000 out=100 delay_ms=2000"),
            headers={"Authorization": f"Bearer {person.key}"},
            timeout=1,
        )

    person.until_history(1, ASK_COSTS)
    assert person.settles() == ASK_COSTS
