"""Shows what a running stack does: `make demo`, and the faults of the page "Break it"."""
