"""Keys, tokens, passwords and permissions."""
