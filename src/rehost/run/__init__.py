"""The straight line: plan what is to be done, visit each link, record what came of it."""
