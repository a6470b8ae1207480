"""HTTP resources: they parse, call, and render; nothing else."""
