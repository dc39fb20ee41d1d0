"""`spendmeter explain`: the events that a refusal rests on, read from history."""
