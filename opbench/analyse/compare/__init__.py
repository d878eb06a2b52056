"""Two runs held beside each other: what is the same on every machine, and what is a matter of time."""
