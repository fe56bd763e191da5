"""Single pictures, fetched when a client requests them."""
