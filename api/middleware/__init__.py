"""The middleware that every request passes: one file each, numbered in the order of api/app.py."""
