"""`freshet play`: everything in one process, without Kafka and Redis."""
