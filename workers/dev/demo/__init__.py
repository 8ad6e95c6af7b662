"""The demonstration of a running stack."""
