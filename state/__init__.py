"""What two processes must agree on: records, topics, Redis entries, settings and the stores over them."""
