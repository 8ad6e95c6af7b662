"""The middleware that every request passes, one file each, in the order of api/app.py."""
