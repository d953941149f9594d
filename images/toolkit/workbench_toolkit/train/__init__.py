"""Training: ``wb train`` runs torchrun on this container's GPUs, with reliable signals, logs and exit codes."""
