"""Words of a prompt that a guardrail blocks: before, during or after the call."""

BEFORE, DURING, AFTER = "BLOCKEDBEFORE", "BLOCKEDDURING", "BLOCKEDAFTER"
