"""What learns and scores: pure, no I/O."""
