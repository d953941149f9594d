"""The auditor: looks at Docker, ledger and hub database for itself and says where they contradict each other.

It shares nouns and names with what it audits, and no code that does anything. What it could not look at is ``Unknown``,
never clean.
"""
