-- The revision leads (docs/decisions/0003): a budget whose period grows gets a window that begins earlier.

CREATE OR REPLACE VIEW signals_now AS
SELECT *, limit_usd - spent_usd AS remaining_usd
FROM signals
ORDER BY revision DESC, window_start DESC, version DESC, appended_at DESC, offset DESC
LIMIT 1 BY account
COMMENT 'The latest signal of each account: what it has spent, and what remains, in USD';
