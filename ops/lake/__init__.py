"""The lake for people: SQL, figures, compaction."""
