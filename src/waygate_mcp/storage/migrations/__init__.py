"""The revisions of the tables, oldest first, as Alembic reads them."""
