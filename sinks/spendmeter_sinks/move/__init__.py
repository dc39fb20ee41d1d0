"""`spendmeter move`: one system continues another, and every account keeps its spend."""
