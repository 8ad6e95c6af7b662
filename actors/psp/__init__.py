"""The payment provider: the interface, the calls of it, their resolution, and the stub."""
