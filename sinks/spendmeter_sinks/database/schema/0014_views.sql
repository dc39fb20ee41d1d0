-- What people query (docs/reference/tables.md): each thing once, with its names, after every correction. Whoever
-- may read a view needs no right to the tables: it is read as its owner, the user who made it.

CREATE OR REPLACE VIEW events DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    event.event_id AS event_id,
    event.occurred_at AS occurred_at,
    event.started_at AS started_at,
    event.key AS key,
    ifNull(event.key_alias, '') AS key_alias,
    ifNull(event.user, '') AS user,
    ifNull(event.user_alias, '') AS user_alias,
    ifNull(event.user_email, '') AS user_email,
    ifNull(event.team, '') AS team,
    ifNull(event.team_alias, '') AS team_alias,
    ifNull(event.organization, '') AS organization,
    ifNull(event.organization_alias, '') AS organization_alias,
    ifNull(event.project, '') AS project,
    ifNull(event.project_alias, '') AS project_alias,
    ifNull(event.end_user, '') AS end_user,
    event.tags AS tags,
    if(startsWith(event.model, concat(event.provider, '/')), substring(event.model, length(event.provider) + 2), event.model) AS model,
    event.model_group AS model_group,
    event.provider AS provider,
    ifNull(event.deployment, '') AS deployment,
    event.call_type AS call_type,
    ifNull(event.session, '') AS session,
    event.gateway AS gateway,
    event.input_tokens AS input_tokens,
    event.output_tokens AS output_tokens,
    event.cache_read_tokens AS cache_read_tokens,
    event.cache_write_tokens AS cache_write_tokens,
    event.reasoning_tokens AS reasoning_tokens,
    event.total_tokens AS total_tokens,
    event.cost_usd + ifNull(correction.usd, 0) AS spent_usd,
    event.cost_usd AS recorded_usd,
    ifNull(correction.times, 0) AS corrections,
    ifNull(correction.is_void, false) AS is_void,
    event.cost_source AS cost_source,
    event.cost_doubt AS cost_doubt,
    event.prices AS prices,
    event.status AS status,
    event.estimated AS estimated,
    event.streamed AS streamed,
    event.cache_hit AS cache_hit,
    event.duration_ms AS duration_ms,
    event.call_id AS call_id,
    event.response_id AS response_id,
    event.object_id AS object_id
FROM (SELECT * FROM usage FINAL WHERE kind = 'usage') AS event
LEFT JOIN
(
    -- Not FINAL: corrections are few, and so their copies alone are compared.
    SELECT corrected AS event_id, sum(usd) AS usd, count() AS times, CAST(max(kind = 'void'), 'Bool') AS is_void
    FROM
    (
        SELECT kind, assumeNotNull(corrects) AS corrected, argMax(cost_usd, first_wins) AS usd
        FROM usage
        WHERE kind != 'usage'
        GROUP BY toDate(occurred_at), key, occurred_at, usage.event_id, kind, corrected
    )
    GROUP BY corrected
) AS correction ON correction.event_id = event.event_id
COMMENT 'Each request once, and what it cost in the end';

CREATE OR REPLACE VIEW by_hour DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.hour AS hour,
    of.team AS team,
    of.key AS key,
    of.user AS user,
    of.organization AS organization,
    of.project AS project,
    of.provider AS provider,
    of.model AS model,
    of.model_group AS model_group,
    of.gateway AS gateway,
    argMaxIf(of.key_alias, of.hour, of.key_alias != '') AS key_alias,
    argMaxIf(of.user_alias, of.hour, of.user_alias != '') AS user_alias,
    argMaxIf(of.user_email, of.hour, of.user_email != '') AS user_email,
    argMaxIf(of.team_alias, of.hour, of.team_alias != '') AS team_alias,
    argMaxIf(of.organization_alias, of.hour, of.organization_alias != '') AS organization_alias,
    argMaxIf(of.project_alias, of.hour, of.project_alias != '') AS project_alias,
    sum(of.requests) AS requests,
    sum(of.failures) AS failures,
    sum(of.unpriced) AS unpriced,
    sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens,
    sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens,
    sum(of.cache_write_tokens) AS cache_write_tokens,
    sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_by_hour AS of
GROUP BY of.hour, of.team, of.key, of.user, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
COMMENT 'Spend by hour and by all that it can be asked by together';

CREATE OR REPLACE VIEW by_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.day AS day,
    of.team AS team,
    of.key AS key,
    of.user AS user,
    of.organization AS organization,
    of.project AS project,
    of.provider AS provider,
    of.model AS model,
    of.model_group AS model_group,
    of.gateway AS gateway,
    argMaxIf(of.key_alias, of.since, of.key_alias != '') AS key_alias,
    argMaxIf(of.user_alias, of.since, of.user_alias != '') AS user_alias,
    argMaxIf(of.user_email, of.since, of.user_email != '') AS user_email,
    argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    argMaxIf(of.organization_alias, of.since, of.organization_alias != '') AS organization_alias,
    argMaxIf(of.project_alias, of.since, of.project_alias != '') AS project_alias,
    sum(of.requests) AS requests,
    sum(of.failures) AS failures,
    sum(of.unpriced) AS unpriced,
    sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens,
    sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens,
    sum(of.cache_write_tokens) AS cache_write_tokens,
    sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_by_day AS of
GROUP BY of.day, of.team, of.key, of.user, of.organization, of.project, of.provider, of.model, of.model_group, of.gateway
COMMENT 'Spend by day (UTC) and by all that it can be asked by together';

CREATE OR REPLACE VIEW by_team_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.day AS day,
    of.team AS team,
    argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    sum(of.requests) AS requests,
    sum(of.failures) AS failures,
    sum(of.unpriced) AS unpriced,
    sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens,
    sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens,
    sum(of.cache_write_tokens) AS cache_write_tokens,
    sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_by_day AS of
GROUP BY of.day, of.team
COMMENT 'Spend by day (UTC) and team';

CREATE OR REPLACE VIEW by_key_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.day AS day,
    of.key AS key,
    of.team AS team,
    of.user AS user,
    argMaxIf(of.key_alias, of.since, of.key_alias != '') AS key_alias,
    argMaxIf(of.team_alias, of.since, of.team_alias != '') AS team_alias,
    argMaxIf(of.user_alias, of.since, of.user_alias != '') AS user_alias,
    argMaxIf(of.user_email, of.since, of.user_email != '') AS user_email,
    sum(of.requests) AS requests,
    sum(of.failures) AS failures,
    sum(of.unpriced) AS unpriced,
    sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens,
    sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens,
    sum(of.cache_write_tokens) AS cache_write_tokens,
    sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_by_day AS of
GROUP BY of.day, of.key, of.team, of.user
COMMENT 'Spend by day (UTC) and key, with its team and user';

CREATE OR REPLACE VIEW by_model_day DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    of.day AS day,
    of.provider AS provider,
    of.model AS model,
    sum(of.requests) AS requests,
    sum(of.failures) AS failures,
    sum(of.unpriced) AS unpriced,
    sum(of.estimated) AS estimated,
    sum(of.corrections) AS corrections,
    sum(of.input_tokens) AS input_tokens,
    sum(of.output_tokens) AS output_tokens,
    sum(of.cache_read_tokens) AS cache_read_tokens,
    sum(of.cache_write_tokens) AS cache_write_tokens,
    sum(of.reasoning_tokens) AS reasoning_tokens,
    sum(of.spent_usd) AS spent_usd
FROM usage_by_day AS of
GROUP BY of.day, of.provider, of.model
COMMENT 'Spend by day (UTC) and model';

CREATE OR REPLACE VIEW accounts_now DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    signal.account AS account,
    signal.budget_id AS budget_id,
    signal.subject AS subject,
    signal.window_start AS window_start,
    signal.window_end AS window_end,
    signal.limit_usd AS limit_usd,
    signal.spent_usd AS spent_usd,
    signal.remaining_usd AS remaining_usd,
    if(signal.limit_usd > 0, toFloat64(signal.spent_usd) / toFloat64(signal.limit_usd), NULL) AS spent_fraction,
    signal.state AS state,
    signal.forecast_exhausted_at AS forecast_exhausted_at,
    budget.period AS period,
    budget.timezone AS timezone,
    budget.action AS action,
    budget.enforcement AS enforcement,
    signal.revision AS revision,
    signal.emitted_at AS emitted_at
FROM signals_now AS signal
INNER JOIN budgets_now AS budget ON budget.id = signal.budget_id
WHERE signal.window_end IS NULL OR signal.window_end > now64(6)
COMMENT 'Each account of the budgets in force, in its window of now: what it has spent and has left';

CREATE OR REPLACE VIEW budgets_now DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT * FROM (SELECT * FROM budgets ORDER BY appended_at DESC, offset DESC LIMIT 1 BY id)
WHERE NOT removed
COMMENT 'The budgets in force';

CREATE OR REPLACE VIEW refusals DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT decision_id, decided_at, gateway, why, name, message, budget_id, account, window_start, window_end,
    limit_usd, spent_usd, limit_usd - spent_usd AS remaining_usd, held_usd, least_usd, pending_usd, revision
FROM decisions FINAL
COMMENT 'Each refused request once: who, why, by which budget, and what was known to be spent';

CREATE OR REPLACE VIEW alerts_once DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT alert_id, emitted_at, kind, message, budget_id, account, subject, window_start, window_end,
    limit_usd, spent_usd, state, threshold, cause_event_id, revision
FROM alerts FINAL
COMMENT 'Each alert once';
