"""What the zero-cost proxies cost, counted in examples that are passed forward through the model."""

GRADIENT_EXAMPLES = 32  # examples whose gradients estimate the curvature
AGREEMENT_EXAMPLES = 8  # examples on which pruned and dense model are compared
AGREEMENT_STRIDE = 5  # thresholds from one comparison to the next, on a grid of 101
BACKWARD = 2  # forward passes that take as long as one backward pass
