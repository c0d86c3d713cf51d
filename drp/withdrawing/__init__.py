"""Taking records out of everything: the exclusion, and what it leaves to do."""
