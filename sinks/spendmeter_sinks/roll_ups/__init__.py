"""Sums of history by hour and by day, which equal its rows (docs/decisions/0029)."""
