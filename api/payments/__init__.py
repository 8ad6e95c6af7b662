"""The payments service of the API."""
