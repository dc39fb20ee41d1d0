"""The real LiteLLM, metered, without a database."""
