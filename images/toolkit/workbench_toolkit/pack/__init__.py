"""Packs: many small files in one LMDB or HDF5 file, for fast random reads."""
