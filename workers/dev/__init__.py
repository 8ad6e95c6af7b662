"""Runs the whole stack on one machine: embedded servers, the Procfile's processes, demo users."""


class Failure(Exception):
    """The command cannot go on; the message is one line."""
