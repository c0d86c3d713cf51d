"""Where every sentence came from, and what was made of it: answered from the files that DVC versions."""
