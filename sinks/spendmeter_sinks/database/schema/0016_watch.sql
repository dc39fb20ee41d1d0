-- What `spendmeter watch` and `spendmeter reconcile` remember of their runs.

CREATE TABLE IF NOT EXISTS watch_runs
(
    name LowCardinality(String) COMMENT 'of the check',
    began_at DateTime64(6, 'UTC'),
    duration_ms UInt64 COMMENT 'milliseconds',
    alerts UInt64 COMMENT 'that it returned, those published before included'
)
ENGINE = ReplacingMergeTree(began_at)
ORDER BY name
COMMENT 'The last run of each check of spendmeter watch that came to its end';

CREATE TABLE IF NOT EXISTS reconciles
(
    checked_at DateTime64(6, 'UTC') COMMENT 'when it began',
    duration_ms UInt64 COMMENT 'milliseconds',
    outcome LowCardinality(String) COMMENT 'equal, differs or not_comparable',
    events UInt64 COMMENT 'compared',
    accounts UInt64 COMMENT 'compared',
    differences UInt64 COMMENT 'found',
    left_out UInt64 COMMENT 'windows and signals that could not be compared',
    summary String COMMENT 'for people: what differs and by how much, or why nothing was compared' CODEC(ZSTD),
    run_by LowCardinality(String) COMMENT 'watch, or reconcile where a person ran it',
    found Array(String) COMMENT 'what differs, a line each, the first hundred; the same difference has the same line in each run' CODEC(ZSTD),
    alert_id Nullable(UUID) COMMENT 'of the alert that says what no alert had said before'
)
ENGINE = MergeTree
ORDER BY checked_at
COMMENT 'Each comparison of recorded events, totals, signals and history that compared all windows';
