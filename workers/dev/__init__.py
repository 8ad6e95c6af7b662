"""Runs the whole stack on one machine: embedded servers, the Procfile's processes, demo users."""


class Failure(Exception):
    """The stack cannot start; the message is one line."""
