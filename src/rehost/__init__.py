"""rehost copies the remote images that a database's rows link to onto the operator's own storage."""

__version__ = "0.1.0"
