"""`spendmeter canary`: spends a budget of its own through the real path, and measures what happens."""
