"""The command line, the local stack, data sets, simulator, replay and benchmarks."""
