"""The records: tables, queries, values, and the connections to PostgreSQL and Redis."""
