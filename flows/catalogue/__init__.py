"""Items and control documents -> Redis."""
