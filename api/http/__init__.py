"""HTTP: route declarations, bodies, responses, ETags."""
