-- Sums by hour and by day that equal the rows (docs/decisions/0029). A sum counts while the rows of its hour or
-- day are those that it was made of: each has a fingerprint, which a projection keeps. Until then, and where
-- rows have come since, the views read the rows.

ALTER TABLE usage MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE usage ADD PROJECTION IF NOT EXISTS fingerprints
(
    SELECT toStartOfHour(occurred_at), count(), sum(cityHash64(event_id, topic, incarnation, partition, offset, cost_usd))
    GROUP BY toStartOfHour(occurred_at)
);

-- What is there already gets it in the background.
ALTER TABLE usage MATERIALIZE PROJECTION fingerprints;

CREATE TABLE IF NOT EXISTS usage_hours
(
    start DateTime('UTC') COMMENT 'of the hour',
    slot UInt8 COMMENT 'each making of an hour writes into the other slot: nobody reads what is being replaced',
    team LowCardinality(String) COMMENT 'empty where there is none, as in what follows',
    key String CODEC(ZSTD),
    user String CODEC(ZSTD),
    organization LowCardinality(String),
    project LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    model_group LowCardinality(String),
    gateway LowCardinality(String),
    key_alias LowCardinality(String) COMMENT 'the latest of the hour, as the names that follow',
    user_alias String CODEC(ZSTD),
    user_email String CODEC(ZSTD),
    team_alias LowCardinality(String),
    organization_alias LowCardinality(String),
    project_alias LowCardinality(String),
    requests UInt64 COMMENT 'requests, those that failed included' CODEC(T64, ZSTD),
    failures UInt64 COMMENT 'requests' CODEC(T64, ZSTD),
    unpriced UInt64 COMMENT 'requests whose price nobody knew' CODEC(T64, ZSTD),
    estimated UInt64 COMMENT 'requests whose counts are an estimate' CODEC(T64, ZSTD),
    corrections UInt64 COMMENT 'corrections and voids' CODEC(T64, ZSTD),
    input_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    output_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    cache_read_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    cache_write_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    reasoning_tokens UInt64 COMMENT 'tokens' CODEC(T64, ZSTD),
    spent_usd Decimal(38, 9) COMMENT 'USD, corrections and voids included' CODEC(ZSTD),
    generation UInt64 COMMENT 'which making of the hour; usage_roll_ups says which one counts' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(generation)
PARTITION BY toYYYYMM(start)
ORDER BY (start, slot, team, key, user, organization, project, provider, model, model_group, gateway)
COMMENT 'Sums by hour, of every making. Query by_hour';

CREATE TABLE IF NOT EXISTS usage_days AS usage_hours
ENGINE = ReplacingMergeTree(generation)
PARTITION BY toYYYYMM(start)
ORDER BY (start, slot, team, key, user, organization, project, provider, model, model_group, gateway)
COMMENT 'Sums by day (UTC), of every making. Query by_day';

CREATE TABLE IF NOT EXISTS usage_roll_ups
(
    grain LowCardinality(String) COMMENT 'hour or day',
    start DateTime('UTC'),
    version UInt64 COMMENT 'twice the generation, and one more once it is done',
    generation UInt64 COMMENT 'rises with each making',
    slot UInt8 COMMENT 'where it is',
    is_done Bool COMMENT 'its rows are whole',
    rows UInt64 COMMENT 'fingerprint of what it was made of: how many rows of usage',
    hash UInt64 COMMENT 'and the sum of their hashes',
    rolled_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (grain, start)
COMMENT 'Which sums of which hour and day count, and what they were made of';

CREATE OR REPLACE VIEW usage_fingerprints AS
SELECT hour, toStartOfDay(hour) AS day, rows, hash,
    sum(rows) OVER (PARTITION BY day) AS day_rows, sum(hash) OVER (PARTITION BY day) AS day_hash
FROM
(
    SELECT toStartOfHour(occurred_at) AS hour, count() AS rows,
        sum(cityHash64(event_id, topic, incarnation, partition, offset, cost_usd)) AS hash
    FROM usage
    GROUP BY hour
) AS counted
COMMENT 'What stands in usage of each hour, copies included';

CREATE OR REPLACE VIEW usage_roll_up_state AS
SELECT now.hour AS hour, now.day AS day, now.rows AS rows, now.hash AS hash, now.day_rows AS day_rows, now.day_hash AS day_hash,
    if(of_hour.made_of = (now.rows, now.hash), of_hour.generation, 0) AS hour_generation,
    if(of_day.made_of = (now.day_rows, now.day_hash), of_day.generation, 0) AS day_generation
FROM usage_fingerprints AS now
LEFT JOIN
(
    SELECT start, generation, (rows, hash) AS made_of FROM usage_roll_ups FINAL WHERE grain = 'hour' AND is_done
) AS of_hour ON of_hour.start = now.hour
LEFT JOIN
(
    SELECT start, generation, (rows, hash) AS made_of FROM usage_roll_ups FINAL WHERE grain = 'day' AND is_done
) AS of_day ON of_day.start = now.day
COMMENT 'Of each hour the generation of its sums that count, and of its day; 0 where rows have come since';

CREATE OR REPLACE VIEW usage_recounted AS
SELECT
    toDate(occurred_at) AS day,
    toStartOfHour(occurred_at) AS hour,
    ifNull(usage.team, '') AS team,
    usage.key AS key,
    ifNull(usage.user, '') AS user,
    ifNull(usage.organization, '') AS organization,
    ifNull(usage.project, '') AS project,
    usage.provider AS provider,
    if(startsWith(usage.model, concat(usage.provider, '/')), substring(usage.model, length(usage.provider) + 2), usage.model) AS model,
    usage.model_group AS model_group,
    usage.gateway AS gateway,
    ifNull(argMax(usage.key_alias, occurred_at), '') AS key_alias,
    ifNull(argMax(usage.user_alias, occurred_at), '') AS user_alias,
    ifNull(argMax(usage.user_email, occurred_at), '') AS user_email,
    ifNull(argMax(usage.team_alias, occurred_at), '') AS team_alias,
    ifNull(argMax(usage.organization_alias, occurred_at), '') AS organization_alias,
    ifNull(argMax(usage.project_alias, occurred_at), '') AS project_alias,
    countIf(kind = 'usage') AS requests,
    countIf(kind = 'usage' AND status = 'failure') AS failures,
    countIf(kind = 'usage' AND cost_source = 'unpriced') AS unpriced,
    countIf(kind = 'usage' AND usage.estimated) AS estimated,
    countIf(kind != 'usage') AS corrections,
    sum(usage.input_tokens) AS input_tokens,
    sum(usage.output_tokens) AS output_tokens,
    sum(usage.cache_read_tokens) AS cache_read_tokens,
    sum(usage.cache_write_tokens) AS cache_write_tokens,
    sum(usage.reasoning_tokens) AS reasoning_tokens,
    sum(cost_usd) AS spent_usd
FROM usage FINAL
GROUP BY day, hour, team, key, user, organization, project, provider, model, model_group, gateway
COMMENT 'Sums by hour, added up from the rows. Query by_hour, which gives the same sooner';

CREATE OR REPLACE VIEW usage_by_hour AS
WITH
(
    SELECT (groupArrayIf((hour, hour_generation), hour_generation > 0), groupArrayIf(hour, hour_generation = 0))
    FROM usage_roll_up_state
) AS state
SELECT start AS hour, team, key, user, organization, project, provider, model, model_group, gateway,
    key_alias, user_alias, user_email, team_alias, organization_alias, project_alias,
    requests, failures, unpriced, estimated, corrections,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_hours
WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
UNION ALL
SELECT hour, team, key, user, organization, project, provider, model, model_group, gateway,
    key_alias, user_alias, user_email, team_alias, organization_alias, project_alias,
    requests, failures, unpriced, estimated, corrections,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_recounted
WHERE day IN (SELECT toDate(arrayJoin(state.2))) AND hour IN (SELECT arrayJoin(state.2))
COMMENT 'Sums by hour that equal the rows: those that count, and what has come since';

CREATE OR REPLACE VIEW usage_by_day AS
WITH
(
    SELECT
    (
        groupUniqArrayIf((day, day_generation), day_generation > 0),
        groupArrayIf((hour, hour_generation), day_generation = 0 AND hour_generation > 0),
        groupArrayIf(hour, day_generation = 0 AND hour_generation = 0)
    )
    FROM usage_roll_up_state
) AS state
SELECT toDate(start) AS day, start AS since, team, key, user, organization, project, provider, model, model_group, gateway,
    key_alias, user_alias, user_email, team_alias, organization_alias, project_alias,
    requests, failures, unpriced, estimated, corrections,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_days
WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
UNION ALL
SELECT toDate(start) AS day, start AS since, team, key, user, organization, project, provider, model, model_group, gateway,
    key_alias, user_alias, user_email, team_alias, organization_alias, project_alias,
    requests, failures, unpriced, estimated, corrections,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_hours
WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
UNION ALL
SELECT day, hour AS since, team, key, user, organization, project, provider, model, model_group, gateway,
    key_alias, user_alias, user_email, team_alias, organization_alias, project_alias,
    requests, failures, unpriced, estimated, corrections,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_recounted
WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
COMMENT 'Sums that equal the rows: by day where that counts, else by hour';
