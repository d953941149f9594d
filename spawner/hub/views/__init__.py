"""Views: build read-only values that pages render and the REST API sends."""
