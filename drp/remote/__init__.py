"""Servers: where they are, what is said to them, how fast they may be asked, and jobs that outlive a process."""
