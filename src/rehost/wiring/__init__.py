"""The only part that chooses implementations, gives them their settings, and opens them."""
