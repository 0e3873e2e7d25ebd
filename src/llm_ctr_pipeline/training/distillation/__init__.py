"""Learning from another model's log-odds."""
