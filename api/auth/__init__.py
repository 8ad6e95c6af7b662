"""The auth service: who comes in, and how long they stay."""
