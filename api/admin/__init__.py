"""The admin service at the door."""
