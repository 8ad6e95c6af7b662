"""The door: sentences in HTTP, and the verbs that must answer now."""
