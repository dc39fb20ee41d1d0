-- Names for people beside the ids: what the gateway knew when the request was made.

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS user_alias Nullable(String) COMMENT 'name of user, if the gateway knew one' CODEC(ZSTD) AFTER tags,
    ADD COLUMN IF NOT EXISTS user_email Nullable(String) COMMENT 'of user; never where SPENDMETER_USER_EMAIL is leave_out' CODEC(ZSTD) AFTER user_alias,
    ADD COLUMN IF NOT EXISTS team_alias LowCardinality(Nullable(String)) COMMENT 'name of team' AFTER user_email,
    ADD COLUMN IF NOT EXISTS organization_alias LowCardinality(Nullable(String)) COMMENT 'name of organization' AFTER team_alias,
    ADD COLUMN IF NOT EXISTS project_alias LowCardinality(Nullable(String)) COMMENT 'name of project' AFTER organization_alias;

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
