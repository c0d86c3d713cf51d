"""Two states of a project, record by record: what differs, since which stage, and what made it so."""
