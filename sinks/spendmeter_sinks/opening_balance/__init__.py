"""Opening balances: what history holds from before the stream began to count a budget."""
