"""What must outlive the process.

engine      one database, SQLite or PostgreSQL: opened, upgraded, read, written
tables      every table and view, as SQLAlchemy Core knows them
writer      the one queue and the one hand that records beside calls are written by
history     calls, failures, use, figures and events, as rows
retention   how long these are kept
backup      one file of it all, and the way back
in_use      who uses a file of SQLite
upgrade     from any earlier revision to this version's
migrations  the revisions, oldest first
"""
