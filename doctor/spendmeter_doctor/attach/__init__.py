"""`spendmeter attach`: the lines that a LiteLLM configuration needs, and nothing else changed."""
