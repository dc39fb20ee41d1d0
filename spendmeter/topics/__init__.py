"""Our topics in Kafka: made, checked and watched; the state that compacted ones hold; dead letters."""
