"""HTTP: route declarations, bodies, responses, pages of lists, ETags."""
