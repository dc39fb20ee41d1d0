"""What the page knows without asking ClickHouse: budgets and signals as Kafka has them now."""
