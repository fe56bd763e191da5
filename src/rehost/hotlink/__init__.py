"""Which Referer each origin wants, and which of its answers are decoys."""
