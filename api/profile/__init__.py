"""The profile service: what people say about themselves, show of themselves and prefer."""
