"""The admin service: users, audit log, configuration, event log, health and figures."""
