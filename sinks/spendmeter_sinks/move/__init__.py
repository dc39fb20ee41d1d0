"""`spendmeter move`: one system goes on where another stood, with every account as it was."""
