-- An offset means something only within one incarnation of its topic: Kafka's id of the topic (KIP-516). A
-- topic that was deleted and made anew, or its namesake in another cluster, has another one.
-- Rows of before this file have none; which incarnation those of usage are of, the table incarnations says.

ALTER TABLE usage ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;
ALTER TABLE usage_objects ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at, MODIFY ORDER BY (object_id, topic, partition, offset, incarnation);
ALTER TABLE signals ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;
ALTER TABLE signals ADD COLUMN IF NOT EXISTS source_incarnation LowCardinality(String) COMMENT 'of spend.usage: which incarnation the offsets of the watermark are of' AFTER watermark;
ALTER TABLE alerts ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;
ALTER TABLE budgets ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;
ALTER TABLE decisions ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS incarnation LowCardinality(String) COMMENT 'Kafka''s id of the topic: offsets of another incarnation are others' AFTER appended_at;

CREATE TABLE IF NOT EXISTS incarnations
(
    topic LowCardinality(String) COMMENT 'spend.usage, as its system calls it',
    incarnation String COMMENT 'Kafka''s id of the topic',
    follows_topic LowCardinality(String) COMMENT 'the one whose accounts it goes on with; empty for the first',
    follows_incarnation String,
    has_unnamed Bool COMMENT 'rows of the topic that name no incarnation are of this one',
    registered_at DateTime64(3, 'UTC') DEFAULT now64(3),
    registered_by String COMMENT 'who decided it'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, incarnation)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Which incarnations of spend.usage this history is of, and which goes on where another stood (`spendmeter move`)';

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

-- Signals of the latest incarnation lead: their versions are other offsets, added up.
CREATE OR REPLACE VIEW signals_now AS
SELECT *, limit_usd - spent_usd AS remaining_usd
FROM signals
ORDER BY
    indexOf((SELECT groupArray(incarnation) FROM (SELECT incarnation FROM incarnations FINAL ORDER BY registered_at)), source_incarnation) DESC,
    revision DESC, window_start DESC, version DESC, appended_at DESC, offset DESC
LIMIT 1 BY account
COMMENT 'The latest signal of each account: what it has spent, and what remains, in USD';
