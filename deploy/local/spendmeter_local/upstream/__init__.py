"""A model server that answers as it is told, and counts."""
