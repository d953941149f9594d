"""Pages and REST API: what they ask, who may, and what is answered."""
