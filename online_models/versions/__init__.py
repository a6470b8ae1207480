"""A ranker as a version: what lists are ordered by, and how it compares with another."""
