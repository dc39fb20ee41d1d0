"""The page and its API: what is spent, what is left, and why a request was refused."""
