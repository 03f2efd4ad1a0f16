"""What must survive: jobs, their events, drains, results. SQLAlchemy Core on SQLite or PostgreSQL."""
