"""The document of the API: drawn from the route table and the shapes that validate."""
