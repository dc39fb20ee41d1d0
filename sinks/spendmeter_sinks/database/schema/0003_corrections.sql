-- Who corrected what, and why; and what each request cost in the end.

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS reason String COMMENT 'why a correction or void was made' CODEC(ZSTD) AFTER response_id,
    ADD COLUMN IF NOT EXISTS recorded_by String COMMENT 'who made a correction or void' CODEC(ZSTD) AFTER reason;

-- A view keeps the columns that its table had when it was made.
CREATE OR REPLACE VIEW usage_once AS
SELECT *, cost_nanousd FROM usage FINAL
COMMENT 'Each usage event exactly once, corrections as events of their own. The view to query in doubt';

CREATE VIEW IF NOT EXISTS usage_net AS
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
