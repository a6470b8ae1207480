"""Dataflows from Kafka to state."""

import os

# Read when numpy is first imported. The matrices here are small: two threads spend 30 times the processor time of one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
