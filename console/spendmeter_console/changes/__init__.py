"""Changes of budgets from the page: what is wanted, what it would do, and the one who carries it out."""
