"""The HTTP layer: resources, and pipelines declared as lists of stages."""
