"""Our topics in Kafka: creating, checking and watching them; the state in compacted ones; dead letters."""
