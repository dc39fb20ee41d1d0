"""`spendmeter explain`: which events a refusal rests on, read back from history."""
