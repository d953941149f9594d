"""Data benchmark: measures how many DataLoader workers a data set needs, and its bottleneck."""
