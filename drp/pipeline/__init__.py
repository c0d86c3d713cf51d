"""From recipes to DVC, and from a DVC stage back to an op."""
