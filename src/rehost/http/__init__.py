"""An HTTP/1.1 client: sockets, TLS, framing, redirects, and which addresses may be connected to."""
