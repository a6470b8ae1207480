"""Dataflows over Kafka, one per file: wiring here, pure logic beside it."""
