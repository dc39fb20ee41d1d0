-- Who wrote what, as far as a signature says: without one, `updated_by` and `recorded_by` are what the record claims.

ALTER TABLE budgets
    ADD COLUMN IF NOT EXISTS signed_by LowCardinality(String)
        COMMENT 'id of the key that the record is signed with; empty: anybody who may write the topic may have written it, and updated_by is a claim'
        AFTER updated_by;

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS signed_by LowCardinality(String)
        COMMENT 'id of the key that the record is signed with, of corrections and of gateways that sign; empty: recorded_by is a claim'
        AFTER recorded_by;

-- A view keeps the columns that its table had when it was made.
CREATE OR REPLACE VIEW budgets_now AS
SELECT * FROM (SELECT * FROM budgets ORDER BY appended_at DESC, offset DESC LIMIT 1 BY id)
WHERE NOT removed
COMMENT 'The budgets in force';

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

CREATE VIEW IF NOT EXISTS authors AS
SELECT 'budget' AS what, id AS of, appended_at, if(removed, 'removed', 'set') AS done,
    if(signed_by = '' AND updated_by != '', concat('claimed: ', updated_by), updated_by) AS by, signed_by
FROM budgets FINAL
UNION ALL
SELECT 'event', toString(assumeNotNull(corrects)), appended_at, toString(kind),
    if(signed_by = '' AND recorded_by != '', concat('claimed: ', recorded_by), recorded_by), signed_by
FROM usage FINAL
WHERE kind != 'usage'
COMMENT 'Who changed which budget and corrected which event, when: claimed where no signature says so';
