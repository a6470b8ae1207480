"""Experiments: who gets which arm, what an arm changes, and what can be said of the difference. Pure."""
