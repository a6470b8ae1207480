"""What all flows run on: reading Kafka, batches, pace, recovery, metrics of the process."""
