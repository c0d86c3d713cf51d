"""What would run, why, what it would ask and what that would take: found without running, writing or asking."""
