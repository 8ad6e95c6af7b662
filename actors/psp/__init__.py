"""The payment provider: its interface, our calls, the resolution of unknown outcomes, the stub."""
