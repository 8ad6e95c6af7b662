"""The whole stack on one machine: embedded servers, the Procfile, demo users."""
