"""What the page asks ClickHouse: typed, bounded in time and memory, each within a viewer's scope."""
