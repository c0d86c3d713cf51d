"""Lineage in the formats of others: each made from the graph."""
