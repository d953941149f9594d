"""Training on the GPUs that this container was given: torchrun with signals, logs and exit codes in order."""
