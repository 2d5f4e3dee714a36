"""sql: addresses from a range that many hosts share, remembered in a PostgreSQL, MySQL or SQLite database."""
