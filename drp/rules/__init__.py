"""Rules: how the offline teacher judges a thought without a model."""
