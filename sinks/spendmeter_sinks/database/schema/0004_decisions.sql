-- Every request that was refused, and what that rested on: what `spendmeter explain` shows.

CREATE TABLE IF NOT EXISTS decisions
(
    decision_id UUID COMMENT 'the client has it as x-spendmeter-decision',
    decided_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    gateway LowCardinality(String),
    why LowCardinality(String) COMMENT 'limit_reached, no_room, blind, unpriced or unbounded',
    name String COMMENT 'the key''s alias, else its hash' CODEC(ZSTD),
    message String COMMENT 'as the client was told' CODEC(ZSTD),
    budget_id LowCardinality(String) COMMENT 'empty, as what follows, where no budget had been read',
    revision Nullable(Int64) COMMENT 'of the budget',
    account String CODEC(ZSTD),
    window_start Nullable(DateTime64(6, 'UTC')),
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'exclusive; NULL for lifetime',
    limit_usd Nullable(Decimal(38, 9)) COMMENT 'USD, raises in force included',
    spent_usd Nullable(Decimal(38, 9)) COMMENT 'USD, known for certain, the signal''s part included',
    signal_usd Nullable(Decimal(38, 9)) COMMENT 'USD, of every event under the watermark',
    held_usd Nullable(Decimal(38, 9)) COMMENT 'USD, held for other running requests',
    least_usd Nullable(Decimal(38, 9)) COMMENT 'USD, what the request needed at the least',
    watermark Map(UInt32, Int64) COMMENT 'partition of spend.usage: last offset in the signal',
    producer_id String COMMENT 'of the gateway''s own events' CODEC(ZSTD),
    seq UInt64 COMMENT 'its own events up to this one were known',
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record',
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it',
    first_wins UInt64 MATERIALIZED bitNot(offset) COMMENT 'version: the lowest offset survives'
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(decided_at)
ORDER BY (decided_at, decision_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per refused request';
