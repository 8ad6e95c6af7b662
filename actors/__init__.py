"""The verbs: changes to records and effects on the world, and the law of such changes."""
