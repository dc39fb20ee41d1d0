"""Plain values of records, budgets and rows: times, periods, ids, dimensions, names. Pure."""
