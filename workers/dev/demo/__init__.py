"""Shows what a running stack does: `make demo`, `make token`, and the faults of the page "Break it"."""
