"""Virtual keys without a database: LiteLLM's key routes, on a file."""
