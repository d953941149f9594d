"""Support for tests and benchmarks: fakes, a whole workbench, load, polling. It imports neither of the two."""
