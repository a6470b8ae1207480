"""Benchmarks: each figure beside a target, or beside a ceiling measured in the same run."""
