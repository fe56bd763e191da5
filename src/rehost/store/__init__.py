"""Images at rest: what they are called (layout), and where they lie (local)."""
