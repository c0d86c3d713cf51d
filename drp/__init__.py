"""A declarative language for pruned reasoning datasets, with lineage."""

__version__ = "0.1.0"
