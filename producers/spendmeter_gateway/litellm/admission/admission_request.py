"""A LiteLLM request that asks for admission under `strict` budgets."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from spendmeter_gateway.admission.cost_bound import Bound, Model, bound_of, femtousd
from spendmeter_gateway.litellm.payload.free_calls import is_free_beforehand
from spendmeter_gateway.litellm.request.size import limited, measure
from spendmeter_gateway.model import RequestSize
from spendmeter_gateway.settings import GatewaySettings

# A counter does about 3 MB a second; a longer text is bounded by its bytes.
MAX_COUNTED_BYTES = 1_000_000
_FREE = Bound(0, 0, 0, 0, 0, True)


class LitellmAdmissionRequest:
    """What a request body asks for, measured only when a budget needs it."""

    def __init__(
        self,
        request_id: UUID,
        data: dict[str, Any],
        call_type: str,
        models: Callable[[], Sequence[Model]],
        settings: GatewaySettings,
    ) -> None:
        self.id = request_id
        self._data, self._call_type, self._models, self._settings = data, call_type, models, settings
        self._request_size: RequestSize | None = None
        self._counted_tokens: int | None = None

    def bound(self) -> Bound | None:
        """What it may cost at the most; None where it has no bound."""
        if is_free_beforehand(self._call_type):
            return _FREE
        if self._request_size is None:
            self._request_size = measure(self._data, self._call_type)
        bound = None
        if self._request_size is not None:
            bound = bound_of(
                self._request_size,
                self._models(),
                default_output_tokens=self._settings.strict_default_output_tokens,
                min_output_tokens=self._settings.strict_min_output_tokens,
                counted_tokens=self._counted_tokens,
            )
        stated_usd = self._settings.strict_unbounded_usd
        if bound is None and stated_usd is not None and not self.is_unpriced():
            return Bound(femtousd(float(stated_usd)), 0, 0, 0, 0, True)
        return bound

    def is_unpriced(self) -> bool:
        """Whether none of the models that may serve it has a price, so that it counts as free or flat."""
        models = self._models()
        return bool(models) and not any(model.prices for model in models)

    async def count(self) -> bool:
        """Count its tokens, in a thread, unless it is too long for that or holds what cannot be counted."""
        asked = self._request_size
        if asked is None or asked.is_open or not 0 < asked.text_bytes <= MAX_COUNTED_BYTES:
            return False
        self._counted_tokens = await asyncio.to_thread(_count, asked.texts)
        return True

    def limit(self, output_tokens: int) -> None:
        """Let each of its answers have that many tokens at the most."""
        limited(self._data, self._call_type, output_tokens)


def _count(texts: Sequence[str]) -> int:
    from litellm.litellm_core_utils.default_encoding import encoding  # slow to import

    return sum(len(tokens) for tokens in encoding.encode_ordinary_batch(list(texts), num_threads=1))
