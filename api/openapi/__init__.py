"""The OpenAPI document, written from the routes and their models, and a page that shows it."""
