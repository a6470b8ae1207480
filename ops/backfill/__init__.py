"""`freshet backfill`: learn a model apart from what is live, judge it, register it."""
