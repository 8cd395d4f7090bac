"""How good a model is: the columns of the paper's Table 1, measured against real items."""
