"""Real Apache Kafka nodes on loopback."""
