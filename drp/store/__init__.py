"""The completion store: what was ever answered, kept beside DVC's own cache; its harm, repair, exchange and upkeep."""
