"""The requests of the comparison: seeded, and the same ones for every contender. Pure."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

MODEL = "priced"
USD_PER_MILLION_IN, USD_PER_MILLION_OUT = 3, 15
NANOUSD_IN, NANOUSD_OUT = 3_000, 15_000
"""Per token."""
MIN_IN, MAX_IN, MIN_OUT, MAX_OUT = 50, 400, 10, 100
LEAST_OUT = 16
"""The shortest answer that `strict` goes ahead for: strict_min_output_tokens."""
# Of the text that carries the directive, and of the frame around a message.
_TOKENS_AROUND = 40


class Ask(NamedTuple):
    """One request, by what the provider will bill for it if nobody shortens the answer."""

    input_tokens: int
    output_tokens: int

    @property
    def cost_nanousd(self) -> int:
        return self.input_tokens * NANOUSD_IN + self.output_tokens * NANOUSD_OUT

    @property
    def least_nanousd(self) -> int:
        """With the shortest answer that is worth asking for."""
        return self.input_tokens * NANOUSD_IN + min(self.output_tokens, LEAST_OUT) * NANOUSD_OUT

    def body(self, number: int, max_tokens: bool, delay_ms: int) -> dict[str, Any]:
        """The request, with a text of at least as many tokens as are billed for it."""
        # A bound that counts tokens must see at least what is billed, as with a real provider.
        words = " budget" * max(0, self.input_tokens - _TOKENS_AROUND)
        plan = f"[[in={self.input_tokens} out={self.output_tokens} delay_ms={delay_ms}]]"
        content = f"Request number {number}, of which so many tokens are to be billed.{words} {plan}"
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        return {**body, "max_tokens": MAX_OUT} if max_tokens else body


def asks(seed: int, key: int, client: int) -> Iterator[Ask]:
    """What this client of this key asks, one after another, without end."""
    dice = random.Random(f"{seed} {key} {client}")
    while True:
        yield Ask(dice.randint(MIN_IN, MAX_IN), dice.randint(MIN_OUT, MAX_OUT))
