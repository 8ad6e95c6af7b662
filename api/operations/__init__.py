"""Routes for operators and machines: health, metrics, public keys."""
