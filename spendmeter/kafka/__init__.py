"""How this project uses Kafka's client: connecting, reading, failing. It knows none of our topics."""
