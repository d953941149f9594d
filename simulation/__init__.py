"""The simulated GPU: a libnvidia-ml.so.1 of our own, its state files and its CDI specification."""
