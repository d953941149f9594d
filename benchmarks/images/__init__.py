"""How large the release images are."""
