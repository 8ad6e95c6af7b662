"""The console: the system in a browser. Its pages are clients of the API, and of nothing else."""
