"""What the PyTorch-CUDA images bring besides PyTorch: from data to training to inference, one command, ``wb``."""
