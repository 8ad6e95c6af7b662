"""The payments service at the door."""
