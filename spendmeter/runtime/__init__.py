"""What every process does the same way: logs, metrics, how it ends; ClickHouse's client; known servers."""
