"""The opening: from which source offset on the stream has counted a budget. Before it, history tells."""

from typing import Literal

from pydantic import Field

from spendmeter.contract.total import MAX_INCARNATION_CHARS, Offset
from spendmeter.contract.wire import Whole, Wire


class Opening(Wire):
    """Where counting began in one source partition; or, for `history`, that all before it has been added."""

    budget_id: str
    shape: str
    """What the budget counts, as a digest: another shape has openings of its own."""
    source_partition: Whole | Literal["history"]
    first_offset: Offset
    """The first one counted; for `history`, those of `before` added up."""
    before: dict[int, Offset] = Field(default_factory=dict)
    """For `history` only. Source partition: everything below this offset was taken from history; EARLIER
    stands for earlier incarnations of spend.usage."""
    revision: Whole = 0
    """For `history` only: of the budget at that time."""
    incarnation: str = Field(default="", max_length=MAX_INCARNATION_CHARS)
    """Of spend.usage, Kafka's id of the topic: which one the offsets are of. Empty in older records."""

    def key(self) -> str:
        """`budget_id|shape|source_partition`; `budget_id|history`, for only the last one counts."""
        shape = () if self.source_partition == "history" else (self.shape,)
        return "|".join((self.budget_id, *shape, str(self.source_partition)))
