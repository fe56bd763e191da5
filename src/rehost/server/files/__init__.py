"""The copies as HTTP responses."""
