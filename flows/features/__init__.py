"""Clean events -> profiles, windows and sessions in Redis."""
