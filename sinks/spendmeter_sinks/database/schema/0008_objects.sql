-- What a provider bills once (a background response, a batch) is in `usage` once, whoever sent its bill and
-- however the copies differ: the sink keeps of each object the copy that came first, as the stream does.

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS object_id String COMMENT 'what the provider bills once, if this is its bill; else empty' CODEC(ZSTD) AFTER response_id;

-- A view keeps the columns that its table had when it was made.
CREATE OR REPLACE VIEW usage_once AS
SELECT *, cost_nanousd FROM usage FINAL
COMMENT 'Each usage event exactly once, corrections as events of their own. The view to query in doubt';

CREATE OR REPLACE VIEW usage_net AS
SELECT event.*, event.cost_usd + ifNull(correction.usd, 0) AS net_usd,
    ifNull(correction.times, 0) AS corrections
FROM (SELECT *, cost_nanousd FROM usage FINAL WHERE kind = 'usage') AS event
LEFT JOIN
(
    SELECT assumeNotNull(corrects) AS event_id, sum(cost_usd) AS usd, count() AS times
    FROM usage FINAL
    WHERE kind != 'usage'
    GROUP BY event_id
) AS correction USING (event_id)
COMMENT 'Each request once, and what it cost in the end: net_usd is its cost with every correction, in USD';

CREATE TABLE IF NOT EXISTS usage_objects
(
    object_id String COMMENT 'what the provider bills once' CODEC(ZSTD),
    producer_id String COMMENT 'of the record: a copy that is not in usage is no gap in its sequence' CODEC(ZSTD),
    seq UInt64 CODEC(Delta, ZSTD),
    event_id UUID,
    topic LowCardinality(String) COMMENT 'Kafka topic of the record',
    partition UInt32 COMMENT 'Kafka partition of the record',
    offset UInt64 COMMENT 'Kafka offset of the record',
    appended_at DateTime64(3, 'UTC') COMMENT 'broker time of the record',
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when ClickHouse stored it'
)
ENGINE = ReplacingMergeTree
ORDER BY (object_id, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every record that bills an object, one row each: the first of an object is in usage, the others only here';
