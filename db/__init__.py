"""Persistent state: models, migrations, sessions and queries. Imports none of the project's other folders."""
