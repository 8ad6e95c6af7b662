"""The auth service: registration, sign-in, sessions, passwords, e-mail verification."""
