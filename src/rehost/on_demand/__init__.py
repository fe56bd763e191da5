"""One picture at once, because a reader asks for it."""
