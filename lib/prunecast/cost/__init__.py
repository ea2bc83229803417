"""What a model costs: parameters, bytes, operations, latency and energy."""
