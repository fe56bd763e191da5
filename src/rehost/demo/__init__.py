"""The demonstration: a small catalogue, simulated hosts that refuse or deceive, and a page that shows the result."""
