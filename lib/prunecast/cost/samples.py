"""What a zero-cost proxy costs, counted in examples that are passed forward through the model."""

GRADIENTS = 32  # examples whose gradients make up the curvature
AGREEING = 8  # examples on which pruned and dense model are compared
EVERY = 5  # thresholds from one comparison to the next, on a grid of 101
BACKWARD = 2  # forward passes that take as long as one backward pass
