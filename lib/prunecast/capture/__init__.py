"""The computation graph of any image network, captured by torch.fx, with gates on its edges."""
