"""Clean events and examples -> the online models in Redis."""
