"""The command `rehost`: verbs, and how their results look."""
