"""What serving writes to Kafka."""
