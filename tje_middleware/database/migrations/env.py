"""How Alembic gets its connection: from whoever migrates, in whose transaction all of it happens."""

from alembic import context

from tje_middleware.database.schema import METADATA, VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
