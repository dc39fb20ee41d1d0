"""spendmeter: real-time spend metering and budget enforcement for LLM gateways."""
