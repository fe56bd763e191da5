"""The processes of one `rehost run --workers`."""
