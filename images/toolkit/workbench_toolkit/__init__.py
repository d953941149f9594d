"""Toolkit of the PyTorch-CUDA images: the command ``wb``, from data to training to inference."""
