"""Doctor: ``wb doctor`` checks that this image runs on the GPUs of this container."""
