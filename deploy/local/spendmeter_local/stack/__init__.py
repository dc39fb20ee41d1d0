"""The processes of the local stack, started in order and kept running."""
