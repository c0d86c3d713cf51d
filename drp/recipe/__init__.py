"""The recipe language: reading, resolving, checking, and its JSON Schema."""
