-- Views that read less (docs/decisions/0048): what is summed up already is not grouped again, and of keys without
-- models there are sums of their own. A day or an hour is in one branch of a view alone.

-- The latest name of several days is the greatest of texts that begin with the day. `empty`, since ClickHouse makes it of
-- a comparison with '' in a query, but not in a projection, and would not find the one in the other.
ALTER TABLE usage_days ADD PROJECTION IF NOT EXISTS without_models
(
    SELECT start, generation, team, key, user, max(start),
        max(if(empty(key_alias), '', concat(leftPad(toString(toUnixTimestamp(start)), 10, '0'), key_alias))),
        max(if(empty(team_alias), '', concat(leftPad(toString(toUnixTimestamp(start)), 10, '0'), team_alias))),
        max(if(empty(user_alias), '', concat(leftPad(toString(toUnixTimestamp(start)), 10, '0'), user_alias))),
        max(if(empty(user_email), '', concat(leftPad(toString(toUnixTimestamp(start)), 10, '0'), user_email))),
        sum(requests), sum(failures), sum(unpriced), sum(estimated), sum(corrections),
        sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(spent_usd)
    GROUP BY start, generation, team, key, user
);

-- What is there already gets it in the background.
ALTER TABLE usage_days MATERIALIZE PROJECTION without_models;

CREATE OR REPLACE VIEW by_hour DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT hour, team, key, user, organization, project, provider, model, model_group, gateway, key_alias, user_alias, user_email, team_alias,
    organization_alias, project_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_by_hour AS of
COMMENT 'Spend by hour and by all that it can be asked by together';

CREATE OR REPLACE VIEW entries DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    occurred_at,
    toStartOfHour(occurred_at) AS hour,
    ifNull(entry.team, '') AS team,
    entry.key AS key,
    ifNull(entry.user, '') AS user,
    ifNull(entry.end_user, '') AS end_user,
    tags,
    entry.provider AS provider,
    if(startsWith(entry.model, concat(entry.provider, '/')), substring(entry.model, length(entry.provider) + 2), entry.model) AS model,
    ifNull(entry.key_alias, '') AS key_alias,
    ifNull(entry.user_alias, '') AS user_alias,
    ifNull(entry.team_alias, '') AS team_alias,
    CAST(kind = 'usage', 'UInt64') AS requests,
    CAST(kind = 'usage' AND status = 'failure', 'UInt64') AS failures,
    CAST(kind = 'usage' AND cost_source = 'unpriced', 'UInt64') AS unpriced,
    CAST(kind != 'usage', 'UInt64') AS corrections,
    entry.input_tokens AS input_tokens,
    entry.output_tokens AS output_tokens,
    toDecimal128(cost_usd, 9) AS spent_usd
FROM usage AS entry FINAL
COMMENT 'Each usage event, correction and void once: what sums are made of';

CREATE OR REPLACE VIEW by_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT toDate(start) AS day, team, key, user, organization, project, provider, model, model_group, gateway, key_alias, user_alias, user_email, team_alias,
    organization_alias, project_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, spent_usd
FROM usage_days
WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
UNION ALL
SELECT toDate(of.since) AS day, of.team AS team, of.key AS key, of.user AS user, of.organization AS organization, of.project AS project,
    of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    argMaxIf(of.key_alias, of.since, of.key_alias != '') AS key_alias, argMaxIf(of.user_alias, of.since, of.user_alias != '') AS user_alias,
    argMaxIf(of.user_email, of.since, of.user_email != '') AS user_email, argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    argMaxIf(of.organization_alias, of.since, of.organization_alias != '') AS organization_alias,
    argMaxIf(of.project_alias, of.since, of.project_alias != '') AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, team, key, user, organization, project, provider, model, model_group, gateway, key_alias, user_alias, user_email, team_alias, organization_alias,
        project_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, team, key, user, organization, project, provider, model, model_group, gateway, key_alias, user_alias, user_email, team_alias, organization_alias,
        project_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
GROUP BY toDate(of.since), of.team, of.key, of.user, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
COMMENT 'Spend by day (UTC) and by all that it can be asked by together';

CREATE OR REPLACE VIEW by_key_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT toDate(of.start) AS day, of.key AS key, of.team AS team, of.user AS user,
    substring(max(if(empty(of.key_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.key_alias))), 11) AS key_alias,
    substring(max(if(empty(of.team_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.team_alias))), 11) AS team_alias,
    substring(max(if(empty(of.user_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.user_alias))), 11) AS user_alias,
    substring(max(if(empty(of.user_email), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.user_email))), 11) AS user_email,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.key, of.team, of.user
UNION ALL
SELECT toDate(of.since) AS day, of.key AS key, of.team AS team, of.user AS user,
    argMaxIf(of.key_alias, of.since, of.key_alias != '') AS key_alias, argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    argMaxIf(of.user_alias, of.since, of.user_alias != '') AS user_alias, argMaxIf(of.user_email, of.since, of.user_email != '') AS user_email,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, key, team, user, key_alias, team_alias, user_alias, user_email, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, key, team, user, key_alias, team_alias, user_alias, user_email, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
GROUP BY toDate(of.since), of.key, of.team, of.user
COMMENT 'Spend by day (UTC) and key, with its team and user';

CREATE OR REPLACE VIEW by_key_between DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT max(of.start) AS since, of.key AS key, of.team AS team, of.user AS user,
    substring(max(if(empty(of.key_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.key_alias))), 11) AS key_alias,
    substring(max(if(empty(of.team_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.team_alias))), 11) AS team_alias,
    substring(max(if(empty(of.user_alias), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.user_alias))), 11) AS user_alias,
    substring(max(if(empty(of.user_email), '', concat(leftPad(toString(toUnixTimestamp(of.start)), 10, '0'), of.user_email))), 11) AS user_email,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE toDate(of.start) >= {first_day:Date} AND toDate(of.start) < {days_end:Date}
    AND (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.key, of.team, of.user
UNION ALL
SELECT max(of.since) AS since, of.key AS key, of.team AS team, of.user AS user,
    argMaxIf(of.key_alias, of.since, of.key_alias != '') AS key_alias, argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    argMaxIf(of.user_alias, of.since, of.user_alias != '') AS user_alias, argMaxIf(of.user_email, of.since, of.user_email != '') AS user_email,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, key, team, user, key_alias, team_alias, user_alias, user_email, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, key, team, user, key_alias, team_alias, user_alias, user_email, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
WHERE toDate(of.since) >= {first_day:Date} AND toDate(of.since) < {days_end:Date}
GROUP BY of.key, of.team, of.user
COMMENT 'Spend by key, with its team and user, from first_day to before days_end';

CREATE OR REPLACE VIEW by_team_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT toDate(of.start) AS day, of.team AS team,
    max(of.team_alias) AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.team
UNION ALL
SELECT toDate(of.since) AS day, of.team AS team,
    argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, team, team_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, team, team_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
GROUP BY toDate(of.since), of.team
COMMENT 'Spend by day (UTC) and team';

CREATE OR REPLACE VIEW by_model_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT toDate(of.start) AS day, of.provider AS provider, of.model AS model,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.provider, of.model
UNION ALL
SELECT toDate(of.since) AS day, of.provider AS provider, of.model AS model,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, provider, model, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, provider, model, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
GROUP BY toDate(of.since), of.provider, of.model
COMMENT 'Spend by day (UTC) and model';

CREATE OR REPLACE VIEW by_team_model_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
SELECT toDate(of.start) AS day, of.team AS team, of.provider AS provider, of.model AS model,
    max(of.team_alias) AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.team, of.provider, of.model
UNION ALL
SELECT toDate(of.since) AS day, of.team AS team, of.provider AS provider, of.model AS model,
    argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM
(
    SELECT start AS since, team, provider, model, team_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_hours
    WHERE (start, generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
    UNION ALL
    SELECT hour AS since, team, provider, model, team_alias, requests, failures, unpriced, estimated, corrections, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, reasoning_tokens, spent_usd
    FROM usage_recounted
    WHERE day IN (SELECT toDate(arrayJoin(state.3))) AND hour IN (SELECT arrayJoin(state.3))
) AS of
GROUP BY toDate(of.since), of.team, of.provider, of.model
COMMENT 'Spend by day (UTC), team and model';

CREATE OR REPLACE VIEW by_team_model_hour DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH
(
    SELECT (groupArrayIf((hour, hour_generation), hour_generation > 0), groupArrayIf(hour, hour_generation = 0))
    FROM usage_roll_up_state
) AS state
SELECT of.start AS hour, of.team AS team, of.provider AS provider, of.model AS model,
    max(of.team_alias) AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_hours AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.team, of.provider, of.model
UNION ALL
SELECT of.hour AS hour, of.team AS team, of.provider AS provider, of.model AS model,
    max(of.team_alias) AS team_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections, sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_recounted AS of
WHERE of.day IN (SELECT toDate(arrayJoin(state.2))) AND of.hour IN (SELECT arrayJoin(state.2))
GROUP BY of.hour, of.team, of.provider, of.model
COMMENT 'Spend by hour, team and model';
