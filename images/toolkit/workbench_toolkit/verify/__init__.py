"""``wb verify``: is this image what its manifest declares.

Whatever differs, and whatever is not declared, is a failure.
"""
