"""Plain values that records, budgets and rows are made of: times, periods, ids, dimensions, names. Pure."""
