"""ClickHouse's HTTP protocol on loopback, over chDB."""
