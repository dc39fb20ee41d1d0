-- Where LiteLLM's figure did not count, and why.

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS cost_doubt LowCardinality(String)
        COMMENT 'why LiteLLM''s cost does not count: not_a_cost, zero, below_parts or below_tokens; empty where it does'
        AFTER prices,
    COMMENT COLUMN cost_source 'litellm, tokens, pricebook, unpriced or cache; unpriced is not free',
    COMMENT COLUMN estimated 'no provider gave the counts: they are our estimate or a lower bound';

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
