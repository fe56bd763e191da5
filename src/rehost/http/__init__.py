"""An HTTP/1.1 client library: URLs, addresses, connections, framing and redirects. It imports nothing of rehost."""
