"""The HTTP API: routes, middleware, and the work that a request must answer at once."""
