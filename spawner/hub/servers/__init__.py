"""One server of one user: from the request over the line to a container that answers, and its end."""
