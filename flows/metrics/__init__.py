"""Everything that happens -> sums by window: the topic `metrics`, and Redis for the dashboard."""
