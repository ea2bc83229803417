"""Selection of what to deploy: configurations, their costs, the Pareto front, and searches for it."""
