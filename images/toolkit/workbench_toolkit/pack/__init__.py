"""Many small files into one file, in LMDB or HDF5, that random reads are quick on."""
