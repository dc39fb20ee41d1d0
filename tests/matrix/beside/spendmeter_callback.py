"""For LiteLLM before 1.94, which loads a callback only from a file beside its configuration."""

from spendmeter_gateway import callback as callback
