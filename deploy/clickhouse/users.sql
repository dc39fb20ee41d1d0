-- ClickHouse users of spendmeter, one per process, each with what that process needs and nothing more.
--
--   1. Replace every CHANGE-ME by a password of its own, and `spend` where SPENDMETER_CLICKHOUSE_DATABASE differs.
--   2. clickhouse-client --multiquery < users.sql, as a user with access management.
--   3. Give each process its user: SPENDMETER_CLICKHOUSE_USER and SPENDMETER_CLICKHOUSE_PASSWORD.
--
-- On a cluster add ON CLUSTER to each statement. Everything may be run again.

-- What readers may use: nothing can be changed, not even these limits.
CREATE SETTINGS PROFILE IF NOT EXISTS spendmeter_readers SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296,
    max_execution_time = 600;
CREATE SETTINGS PROFILE IF NOT EXISTS spendmeter_queries SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296,
    max_execution_time = 60,
    max_result_rows = 1000000,
    result_overflow_mode = 'throw';

-- `python -m sinks.clickhouse migrate`: the only one that makes or changes tables. Views are replaced.
CREATE USER IF NOT EXISTS spendmeter_migrate IDENTIFIED WITH sha256_password BY 'CHANGE-ME';
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER ADD COLUMN, ALTER COMMENT COLUMN, SELECT, INSERT ON spend.* TO spendmeter_migrate;
GRANT TABLE ENGINE ON MergeTree TO spendmeter_migrate;
GRANT TABLE ENGINE ON ReplacingMergeTree TO spendmeter_migrate;

-- `python -m sinks.clickhouse`: writes history; adds it up for opening balances.
CREATE USER IF NOT EXISTS spendmeter_sink IDENTIFIED WITH sha256_password BY 'CHANGE-ME';
GRANT SELECT, INSERT ON spend.* TO spendmeter_sink;

-- `spendmeter reconcile`, and the other commands that read: explain, top, correct, letters, import.
CREATE USER IF NOT EXISTS spendmeter_reconcile IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spendmeter_readers';
GRANT SELECT ON spend.* TO spendmeter_reconcile;

-- People: `spendmeter query`, notebooks, dashboards.
CREATE USER IF NOT EXISTS spendmeter_query IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spendmeter_queries';
GRANT SELECT ON spend.* TO spendmeter_query;

-- The page and its API.
CREATE USER IF NOT EXISTS spendmeter_console IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spendmeter_queries';
GRANT SELECT ON spend.* TO spendmeter_console;
