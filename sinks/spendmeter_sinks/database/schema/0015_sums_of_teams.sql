-- Sums by hour and by day of teams, models and the like, without keys and users: of many keys hundreds are one row.
-- A projection of the sums that are there: whoever makes or replaces those makes these, too (docs/decisions/0032).

ALTER TABLE usage_hours MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE usage_hours ADD PROJECTION IF NOT EXISTS without_keys
(
    SELECT start, generation, team, organization, project, provider, model, model_group, gateway,
        max(team_alias), max(organization_alias), max(project_alias),
        sum(requests), sum(failures), sum(unpriced), sum(estimated), sum(corrections),
        sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(spent_usd)
    GROUP BY start, generation, team, organization, project, provider, model, model_group, gateway
);

-- What is there already gets it in the background.
ALTER TABLE usage_hours MATERIALIZE PROJECTION without_keys;

ALTER TABLE usage_days MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE usage_days ADD PROJECTION IF NOT EXISTS without_keys
(
    SELECT start, generation, team, organization, project, provider, model, model_group, gateway,
        max(team_alias), max(organization_alias), max(project_alias),
        sum(requests), sum(failures), sum(unpriced), sum(estimated), sum(corrections),
        sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(spent_usd)
    GROUP BY start, generation, team, organization, project, provider, model, model_group, gateway
);

-- What is there already gets it in the background.
ALTER TABLE usage_days MATERIALIZE PROJECTION without_keys;

CREATE OR REPLACE VIEW usage_teams_by_hour AS
WITH
(
    SELECT (groupArrayIf((hour, hour_generation), hour_generation > 0), groupArrayIf(hour, hour_generation = 0))
    FROM usage_roll_up_state
) AS state
SELECT of.start AS hour, of.team AS team, of.organization AS organization, of.project AS project, of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    max(of.team_alias) AS team_alias, max(of.organization_alias) AS organization_alias, max(of.project_alias) AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated, sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens, sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens, sum(of.spent_usd) AS spent_usd
FROM usage_hours AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.team, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
UNION ALL
SELECT of.hour AS hour, of.team AS team, of.organization AS organization, of.project AS project, of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    max(of.team_alias) AS team_alias, max(of.organization_alias) AS organization_alias, max(of.project_alias) AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated, sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens, sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens, sum(of.spent_usd) AS spent_usd
FROM usage_recounted AS of
WHERE of.day IN (SELECT toDate(arrayJoin(state.2))) AND of.hour IN (SELECT arrayJoin(state.2))
GROUP BY of.hour, of.team, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
COMMENT 'usage_by_hour without keys and users';

CREATE OR REPLACE VIEW usage_teams_by_day AS
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
SELECT toDate(of.start) AS day, of.start AS since, of.team AS team, of.organization AS organization, of.project AS project, of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    max(of.team_alias) AS team_alias, max(of.organization_alias) AS organization_alias, max(of.project_alias) AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated, sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens, sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens, sum(of.spent_usd) AS spent_usd
FROM usage_days AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.1) AS one))
GROUP BY of.start, of.team, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
UNION ALL
SELECT toDate(of.start) AS day, of.start AS since, of.team AS team, of.organization AS organization, of.project AS project, of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    max(of.team_alias) AS team_alias, max(of.organization_alias) AS organization_alias, max(of.project_alias) AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated, sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens, sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens, sum(of.spent_usd) AS spent_usd
FROM usage_hours AS of
WHERE (of.start, of.generation) IN (SELECT one.1, one.2 FROM (SELECT arrayJoin(state.2) AS one))
GROUP BY of.start, of.team, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
UNION ALL
SELECT toDate(of.hour) AS day, of.hour AS since, of.team AS team, of.organization AS organization, of.project AS project, of.provider AS provider, of.model AS model, of.model_group AS model_group, of.gateway AS gateway,
    max(of.team_alias) AS team_alias, max(of.organization_alias) AS organization_alias, max(of.project_alias) AS project_alias,
    sum(of.requests) AS requests, sum(of.failures) AS failures, sum(of.unpriced) AS unpriced, sum(of.estimated) AS estimated, sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens, sum(of.output_tokens) AS output_tokens, sum(of.cache_read_tokens) AS cache_read_tokens, sum(of.cache_write_tokens) AS cache_write_tokens, sum(of.reasoning_tokens) AS reasoning_tokens, sum(of.spent_usd) AS spent_usd
FROM usage_recounted AS of
WHERE of.day IN (SELECT toDate(arrayJoin(state.3))) AND of.hour IN (SELECT arrayJoin(state.3))
GROUP BY of.hour, of.team, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
COMMENT 'usage_by_day without keys and users';
