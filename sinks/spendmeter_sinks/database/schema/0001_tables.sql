-- Each table keeps one row per identity (its ORDER BY), whatever was delivered twice:
-- 1. `non_replicated_deduplication_window`: an insert sent again under its token is dropped whole.
-- 2. ReplacingMergeTree(first_wins): of copies that have offsets of their own (a gateway's resend) the row
--    with the LOWEST offset survives merges and FINAL, since ReplacingMergeTree keeps the highest
--    version and `bitNot` turns the order of offsets round. The stream counts the first copy and
--    drops the others; history keeps the same one, so both name the same offset for an event.
-- ORDER BY holds immutable identity only, and PARTITION BY a value fixed per identity: copies that
-- differ in either would never be merged.
-- A batch's token must be remembered while another worker takes the batch over (a session timeout):
-- 10,000 blocks are 64 partitions × 5 batches a second × 30 seconds.

CREATE TABLE IF NOT EXISTS usage
(
    event_id UUID COMMENT 'UUIDv7 minted at the gateway; a resend carries the same one',
    kind LowCardinality(String) COMMENT 'usage, correction or void',
    corrects Nullable(UUID) COMMENT 'event_id that a correction or void refers to',
    producer_id String COMMENT 'one outbox of one gateway process' CODEC(ZSTD),
    seq UInt64 COMMENT 'dense per producer_id, from 1: a gap is a loss' CODEC(Delta, ZSTD),
    occurred_at DateTime64(6, 'UTC') COMMENT 'when the request finished; decides the window' CODEC(Delta, ZSTD),
    started_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    key String COMMENT 'hash of the API key, empty when there was none' CODEC(ZSTD),
    key_alias LowCardinality(Nullable(String)),
    user Nullable(String) CODEC(ZSTD),
    team LowCardinality(Nullable(String)),
    organization LowCardinality(Nullable(String)),
    project LowCardinality(Nullable(String)),
    end_user Nullable(String) CODEC(ZSTD),
    tags Array(LowCardinality(String)),
    model LowCardinality(String) COMMENT 'as priced',
    model_group LowCardinality(String) COMMENT 'as requested',
    provider LowCardinality(String),
    deployment LowCardinality(Nullable(String)),
    call_type LowCardinality(String),
    session Nullable(String) CODEC(ZSTD),
    gateway LowCardinality(String),
    input_tokens UInt64 COMMENT 'tokens, cache reads and writes included' CODEC(T64, ZSTD),
    output_tokens UInt64 COMMENT 'tokens, reasoning included' CODEC(T64, ZSTD),
    cache_read_tokens UInt64 COMMENT 'tokens, part of input_tokens' CODEC(T64, ZSTD),
    cache_write_tokens UInt64 COMMENT 'tokens, part of input_tokens' CODEC(T64, ZSTD),
    reasoning_tokens UInt64 COMMENT 'tokens, part of output_tokens' CODEC(T64, ZSTD),
    total_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    cost_usd Decimal(18, 9) COMMENT 'USD, exact to the nano-dollar',
    cost_nanousd Int64 ALIAS reinterpretAsInt64(cost_usd) COMMENT 'nano-USD, the amount as on the wire',
    cost_source LowCardinality(String) COMMENT 'litellm, pricebook, unpriced or cache; unpriced is not free',
    prices Map(LowCardinality(String), String) COMMENT 'USD per unit as exact decimal strings, and version',
    status LowCardinality(String) COMMENT 'success or failure',
    estimated Bool COMMENT 'the client left before the end: counts are a lower bound',
    streamed Bool,
    cache_hit Bool,
    duration_ms UInt64 COMMENT 'milliseconds' CODEC(T64, ZSTD),
    call_id String CODEC(ZSTD),
    response_id String CODEC(ZSTD),
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record' CODEC(Delta, ZSTD),
    appended_at DateTime64(3, 'UTC') COMMENT 'broker time of the record' CODEC(Delta, ZSTD),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it' CODEC(Delta, ZSTD),
    first_wins UInt64 MATERIALIZED bitNot(offset) COMMENT 'version: the lowest offset survives',
    -- Outside it toDate wraps round, and an event would be filed under a day it does not belong to.
    CONSTRAINT occurred_at_has_a_date CHECK occurred_at >= toDateTime64('1970-01-01 00:00:00', 6, 'UTC')
        AND occurred_at < toDateTime64('2149-06-06 00:00:00', 6, 'UTC')
)
ENGINE = ReplacingMergeTree(first_wins)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toDate(occurred_at), key, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per usage event. Query usage_once, or usage FINAL: until parts are merged a resent event has two rows';

CREATE TABLE IF NOT EXISTS signals
(
    budget_id LowCardinality(String),
    account String COMMENT 'budget id | dimension=value …' CODEC(ZSTD),
    subject Map(LowCardinality(String), String) COMMENT 'dimension: value',
    window_start DateTime64(6, 'UTC'),
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'exclusive; NULL for lifetime',
    limit_usd Decimal(38, 9) COMMENT 'USD, raises in force included',
    spent_usd Decimal(38, 9) COMMENT 'USD, of every event under the watermark',
    state LowCardinality(String) COMMENT 'ok, warning or exceeded',
    threshold Nullable(Float64) COMMENT 'highest fraction of the limit that was reached',
    watermark Map(UInt32, Int64) COMMENT 'partition of spend.usage: last offset included',
    revision Int64 COMMENT 'of the budget',
    version UInt64 COMMENT 'rises per account',
    cause_event_id Nullable(UUID),
    forecast_exhausted_at Nullable(DateTime64(6, 'UTC')),
    emitted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record' CODEC(Delta, ZSTD),
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record' CODEC(Delta, ZSTD),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it' CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(emitted_at)
ORDER BY (account, emitted_at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every signal that was read, one row per record: how each account came to its state';

CREATE TABLE IF NOT EXISTS alerts
(
    alert_id UUID COMMENT 'the same crossing always has the same one',
    kind LowCardinality(String) COMMENT 'threshold, exceeded, recovered, forecast, unpriced or drift',
    message String,
    emitted_at DateTime64(6, 'UTC'),
    budget_id LowCardinality(String) COMMENT 'empty where no account is concerned',
    account String COMMENT 'empty where no account is concerned',
    subject Map(LowCardinality(String), String) COMMENT 'dimension: value',
    window_start Nullable(DateTime64(6, 'UTC')),
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'exclusive; NULL for lifetime',
    limit_usd Nullable(Decimal(38, 9)) COMMENT 'USD',
    spent_usd Nullable(Decimal(38, 9)) COMMENT 'USD',
    state LowCardinality(Nullable(String)),
    threshold Nullable(Float64) COMMENT 'fraction of the limit',
    revision Nullable(Int64) COMMENT 'of the budget',
    cause_event_id Nullable(UUID),
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record',
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it',
    first_wins UInt64 MATERIALIZED bitNot(offset) COMMENT 'version: the lowest offset survives'
)
ENGINE = ReplacingMergeTree(first_wins)
ORDER BY alert_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per alert, the first that was sent. Not partitioned: a repeat may come in another month';

CREATE TABLE IF NOT EXISTS budgets
(
    id String,
    removed Bool COMMENT 'this record took the budget out of force; the other fields are then empty',
    revision Int64,
    match Map(LowCardinality(String), String) COMMENT 'dimension: value, * for one account per value',
    limit_usd Decimal(18, 9) COMMENT 'USD, the standing limit without raises',
    period LowCardinality(String),
    timezone LowCardinality(String),
    starts_at Nullable(DateTime64(6, 'UTC')),
    reset_at Nullable(DateTime64(6, 'UTC')) COMMENT 'spend before it no longer counts',
    warn_at Array(Float64) COMMENT 'fractions of the limit',
    action LowCardinality(String) COMMENT 'block, warn or observe',
    enforcement LowCardinality(String) COMMENT 'settled or strict',
    unpriced String COMMENT 'allow, block or USD per request',
    raises Nested(amount_usd Decimal(18, 9), until DateTime64(6, 'UTC')),
    replaces Nullable(String),
    updated_at DateTime64(6, 'UTC') COMMENT 'of a removal: the Kafka timestamp of its record',
    updated_by String,
    definition String COMMENT 'the record as it was written, JSON; empty for a removal' CODEC(ZSTD),
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record',
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it'
)
ENGINE = ReplacingMergeTree
ORDER BY (id, updated_at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of every budget, with who and when, removals too. In force: budgets_now';

CREATE TABLE IF NOT EXISTS dead_letters
(
    source_topic LowCardinality(String) COMMENT 'where the record that could not be read stood',
    source_partition UInt32,
    source_offset UInt64,
    reason LowCardinality(String),
    detail String,
    component LowCardinality(String) COMMENT 'who met it',
    key String COMMENT 'as encoding says',
    payload String COMMENT 'the record whole, as encoding says' CODEC(ZSTD),
    encoding LowCardinality(String) COMMENT 'utf-8 or base64',
    headers Map(String, String),
    failed_at DateTime64(6, 'UTC'),
    topic LowCardinality(String) COMMENT 'Kafka topic of the letter',
    partition UInt32 COMMENT 'Kafka partition of the letter',
    offset UInt64 COMMENT 'Kafka offset of the letter',
    appended_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the letter',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it',
    first_wins UInt64 MATERIALIZED bitNot(offset) COMMENT 'version: the lowest offset survives'
)
ENGINE = ReplacingMergeTree(first_wins)
ORDER BY (source_topic, source_partition, source_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per record that could not be read or kept, whoever met it. Query with FINAL';
