"""Shared by every process: logs, metrics, exits, ClickHouse's client, supported servers."""
