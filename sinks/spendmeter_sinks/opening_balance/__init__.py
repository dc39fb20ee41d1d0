"""Opening balances: what history already holds when the stream begins to count a budget."""
