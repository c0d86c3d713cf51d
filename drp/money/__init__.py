"""Money: what a model costs, what was paid, and a purse that never gives more than its budget."""
