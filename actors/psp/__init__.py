"""The payment provider: the seam to it, and the stub that stands in for it."""
