"""What people see, as values: pages render them and the REST API sends them; nothing is changed here."""
