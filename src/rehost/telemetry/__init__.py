"""Events as an operator sees them: a progress display, log lines, and the figures in both."""
