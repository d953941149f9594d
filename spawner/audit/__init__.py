"""The auditor: reads Docker, the ledger and the hub database independently and reports contradictions.

It shares types and names with the audited code, but no code with effects. A source that it cannot read is ``Unknown``,
never clean.
"""
