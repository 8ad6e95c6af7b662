"""The nouns: records, values, queries and connections; what is true with no one asking."""
