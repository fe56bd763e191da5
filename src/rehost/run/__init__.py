"""A run: plan what is due, visit each link, record the outcomes."""
