-- ClickHouse users of spendmeter, one per process, each with what that process needs and nothing more.
--
--   1. Replace every CHANGE-ME by a password of its own, and `spend` where SPENDMETER_CLICKHOUSE_DATABASE differs.
--   2. clickhouse-client --multiquery < users.sql, as a user with access management.
--   3. Give each process its user: SPENDMETER_CLICKHOUSE_USER and SPENDMETER_CLICKHOUSE_PASSWORD.
--
-- On a cluster add ON CLUSTER to each statement. Everything may be run again.

-- What readers may use: nothing can be changed, not even these limits.
CREATE SETTINGS PROFILE IF NOT EXISTS spend_readers SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296,
    max_bytes_before_external_sort = 268435456,
    max_bytes_before_external_group_by = 268435456,
    max_execution_time = 600;
CREATE SETTINGS PROFILE IF NOT EXISTS spend_queries SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296,
    max_execution_time = 60,
    max_result_rows = 1000000,
    result_overflow_mode = 'throw';
-- Grafana's data source sends a limit of its own with each query (its timeout and 5 s), so it may set that one.
CREATE SETTINGS PROFILE IF NOT EXISTS spend_dashboards SETTINGS
    readonly = 1,
    max_memory_usage = 4294967296,
    max_execution_time = 60 MAX 120 CHANGEABLE_IN_READONLY,
    max_result_rows = 1000000,
    result_overflow_mode = 'throw';

-- `spendmeter sink migrate`: the only one that makes or changes tables. Views are replaced. Keep it: the views
-- that people query (docs/reference/tables.md) read the tables as this user.
CREATE USER IF NOT EXISTS spend_migrate IDENTIFIED WITH sha256_password BY 'CHANGE-ME';
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER ADD COLUMN, ALTER COMMENT COLUMN, ALTER ORDER BY, ALTER SETTINGS, ALTER ADD PROJECTION, ALTER MATERIALIZE PROJECTION, SELECT, INSERT ON spend.* TO spend_migrate;
GRANT TABLE ENGINE ON MergeTree TO spend_migrate;
GRANT TABLE ENGINE ON ReplacingMergeTree TO spend_migrate;

-- `spendmeter sink`: writes history; adds it up for opening balances.
CREATE USER IF NOT EXISTS spend_sink IDENTIFIED WITH sha256_password BY 'CHANGE-ME';
GRANT SELECT, INSERT ON spend.* TO spend_sink;

-- `spendmeter reconcile`, and the other commands that read: explain, top, correct, letters, import.
CREATE USER IF NOT EXISTS spend_reconcile IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_readers';
GRANT SELECT ON spend.* TO spend_reconcile;

-- People: `spendmeter query`, notebooks, dashboards.
CREATE USER IF NOT EXISTS spend_query IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_queries';
GRANT SELECT ON spend.* TO spend_query;

-- The page and its API.
CREATE USER IF NOT EXISTS spend_console IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_queries';
GRANT SELECT ON spend.* TO spend_console;

-- `spendmeter alerts relay`: the names of keys, users, teams, organizations and projects, for its messages.
CREATE USER IF NOT EXISTS spend_relay IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_queries';
GRANT SELECT(day, key, key_alias, user, user_alias, user_email) ON spend.by_key_day TO spend_relay;
GRANT SELECT(day, team, team_alias) ON spend.by_team_day TO spend_relay;
GRANT SELECT(day, organization, organization_alias, project, project_alias) ON spend.by_day TO spend_relay;

-- `spendmeter watch`: compares and searches history; remembers its runs.
CREATE USER IF NOT EXISTS spend_watch IDENTIFIED WITH sha256_password BY 'CHANGE-ME';
GRANT SELECT ON spend.* TO spend_watch;
GRANT INSERT ON spend.watch_runs TO spend_watch;
GRANT INSERT ON spend.reconciles TO spend_watch;

-- People who may see the views and none of the tables beneath them.
CREATE USER IF NOT EXISTS spend_views IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_queries';
GRANT SELECT ON spend.events TO spend_views;
GRANT SELECT ON spend.by_hour TO spend_views;
GRANT SELECT ON spend.by_day TO spend_views;
GRANT SELECT ON spend.by_team_day TO spend_views;
GRANT SELECT ON spend.by_key_day TO spend_views;
GRANT SELECT ON spend.by_model_day TO spend_views;
GRANT SELECT ON spend.by_team_model_day TO spend_views;
GRANT SELECT ON spend.by_team_model_hour TO spend_views;
GRANT SELECT ON spend.by_key_between TO spend_views;
GRANT SELECT ON spend.entries TO spend_views;
GRANT SELECT ON spend.budgets_now TO spend_views;
GRANT SELECT ON spend.accounts_now TO spend_views;
GRANT SELECT ON spend.refusals TO spend_views;
GRANT SELECT ON spend.alerts_once TO spend_views;
GRANT SELECT ON spend.deliveries_now TO spend_views;

-- Grafana (deploy/grafana): the same views.
CREATE USER IF NOT EXISTS spend_grafana IDENTIFIED WITH sha256_password BY 'CHANGE-ME' SETTINGS PROFILE 'spend_dashboards';
GRANT SELECT ON spend.events TO spend_grafana;
GRANT SELECT ON spend.by_hour TO spend_grafana;
GRANT SELECT ON spend.by_day TO spend_grafana;
GRANT SELECT ON spend.by_team_day TO spend_grafana;
GRANT SELECT ON spend.by_key_day TO spend_grafana;
GRANT SELECT ON spend.by_model_day TO spend_grafana;
GRANT SELECT ON spend.by_team_model_day TO spend_grafana;
GRANT SELECT ON spend.by_team_model_hour TO spend_grafana;
GRANT SELECT ON spend.by_key_between TO spend_grafana;
GRANT SELECT ON spend.entries TO spend_grafana;
GRANT SELECT ON spend.budgets_now TO spend_grafana;
GRANT SELECT ON spend.accounts_now TO spend_grafana;
GRANT SELECT ON spend.refusals TO spend_grafana;
GRANT SELECT ON spend.alerts_once TO spend_grafana;
GRANT SELECT ON spend.deliveries_now TO spend_grafana;
