"""The local stack: a real Kafka and a real Redis as child processes, and the supervisor of all parts."""
