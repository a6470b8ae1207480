"""Impressions and outcomes by arm -> sums, alarms, and guardrails that stop an arm."""
