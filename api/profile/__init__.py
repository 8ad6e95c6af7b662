"""The profile service: the signed-in user's profile, avatar and preferences."""
