"""What every process does the same way: settings, logging, metrics, Kafka clients, compacted topics."""
