"""Verification that bytes are a whole picture: their type, their structure to its end, a decoder that reads it all."""
