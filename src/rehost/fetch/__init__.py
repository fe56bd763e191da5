"""Bytes from an origin: politely, safely, bounded."""
