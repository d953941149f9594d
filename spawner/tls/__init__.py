"""TLS: checks the certificate of the workbench's own TLS service, and writes that service's configuration."""
