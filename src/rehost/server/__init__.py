"""What readers see: the copies over HTTP."""
