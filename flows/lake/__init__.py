"""Clean events, impressions and examples -> Parquet."""
