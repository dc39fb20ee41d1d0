-- What a person means when they ask: each event once, each account and budget as it is now.

CREATE VIEW IF NOT EXISTS usage_once AS
SELECT *, cost_nanousd FROM usage FINAL
COMMENT 'Each usage event exactly once. The view to query in doubt';

CREATE VIEW IF NOT EXISTS signals_now AS
SELECT *, limit_usd - spent_usd AS remaining_usd
FROM signals
ORDER BY window_start DESC, revision DESC, version DESC, appended_at DESC, offset DESC
LIMIT 1 BY account
COMMENT 'The latest signal of each account: what it has spent, and what remains, in USD';

CREATE VIEW IF NOT EXISTS budgets_now AS
SELECT * FROM (SELECT * FROM budgets ORDER BY appended_at DESC, offset DESC LIMIT 1 BY id)
WHERE NOT removed
COMMENT 'The budgets in force';
