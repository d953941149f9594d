"""Export: ``wb export`` converts a PyTorch model to files that need no Python."""
