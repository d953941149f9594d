"""Finds out how many DataLoader workers a data set needs, and what keeps the GPU waiting."""
