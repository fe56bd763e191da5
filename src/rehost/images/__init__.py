"""Proof that bytes are a whole picture: how they begin, their structure to its end, a decoder that reads it all."""
