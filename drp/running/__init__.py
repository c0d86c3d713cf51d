"""Running stages through DVC, several at once, and showing what they do."""
