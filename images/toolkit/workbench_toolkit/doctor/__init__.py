"""``wb doctor``: will this image run on the GPUs that this container was given?"""
