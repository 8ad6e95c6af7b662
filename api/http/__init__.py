"""HTTP: route declarations, bodies, the response envelope, ETags, forms."""
