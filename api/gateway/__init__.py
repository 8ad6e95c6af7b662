"""The gates that every request passes, one file a gate."""
