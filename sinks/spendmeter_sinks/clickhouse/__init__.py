"""History: every record of usage, signals, alerts, budgets and dead letters, once, in ClickHouse."""
