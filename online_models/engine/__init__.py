"""The engine: everything it knows of items and models is learned from one event at a time."""
