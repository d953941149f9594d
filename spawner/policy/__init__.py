"""Pure decisions: data in, decision out; no I/O, no clock, no JupyterHub."""
