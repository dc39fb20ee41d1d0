-- A refusal may rest on requests that had been answered and were not recorded yet.

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS pending_usd Nullable(Decimal(38, 9)) COMMENT 'USD of spent_usd, answered and not yet recorded' AFTER seq,
    ADD COLUMN IF NOT EXISTS pending Array(UUID) COMMENT 'event ids of the costliest of those' AFTER pending_usd;
