"""What every process does the same way: logs, metrics, how it ends; ClickHouse's client; which servers are supported."""
