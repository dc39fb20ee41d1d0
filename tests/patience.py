"""How long a test waits at most for a condition. None waits for a time to pass."""

WITHIN_SECONDS = 120.0
"""For a crowded machine. It costs nothing where all is well: a wait ends once its condition holds."""
