"""For LiteLLM before 1.94, which loads a callback only from a file beside its configuration."""

from producers.litellm_callback import spendmeter as spendmeter
