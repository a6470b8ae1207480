"""The write side of all models."""
