"""What operators and machines ask: health, metrics, public keys."""
