"""What the command ``workbench`` can do, a file for each thing that it is done to.

All but the audit ask the hub's REST API, with a token of the hub.
"""
