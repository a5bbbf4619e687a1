"""What must outlive the process.

engine      one database, SQLite or PostgreSQL: opened, upgraded, read, written
tables      every table and view, as SQLAlchemy Core knows them
upgrade     from any earlier revision to this version's
migrations  the revisions, oldest first
"""
