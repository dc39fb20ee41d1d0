"""Kafka's client as this project uses it: how it connects, reads and fails. It knows no topic of ours."""
