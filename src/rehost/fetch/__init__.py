"""One image by HTTP, within all limits: a complete body on disk, or the reason why there is none."""
