"""audit rows as a chain that the database refuses to change; the rows that are there get theirs

A later migration must not rebuild the table (batch mode on SQLite): its triggers would be lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from db.audit_chain import BEFORE_THE_FIRST, REFUSE_CHANGES, Link, sealed

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

AT_A_TIME = 2000


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("seal", sa.String(length=16), nullable=False, server_default=""))
    op.add_column("audit_event", sa.Column("previous_hash", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("audit_event", sa.Column("hash", sa.String(length=64), nullable=False, server_default=""))
    connection = op.get_bind()
    previous_hash, last_id = BEFORE_THE_FIRST, 0
    while rows := connection.execute(
        sa.text(
            "SELECT id, at, actor, action, subject, detail, origin FROM audit_event WHERE id > :after "
            "ORDER BY id LIMIT :many"
        ),
        {"after": last_id, "many": AT_A_TIME},
    ).all():
        chained = []
        for id_, at, actor, action, subject, detail, origin in rows:
            at = datetime.fromisoformat(at) if isinstance(at, str) else at
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            detail = json.loads(detail) if isinstance(detail, str) else detail
            link = sealed(Link(id_, at, actor, action, subject, detail, origin), previous_hash, None)
            chained.append({"of": id_, "seal": link.seal, "previous_hash": previous_hash, "hash": link.hash})
            previous_hash, last_id = link.hash, id_
        connection.execute(
            sa.text("UPDATE audit_event SET seal = :seal, previous_hash = :previous_hash, hash = :hash WHERE id = :of"),
            chained,
        )
    op.create_index("ix_audit_event_actor", "audit_event", ["actor"])
    op.create_index("ix_audit_event_action", "audit_event", ["action"])
    op.create_index("uq_audit_event_previous_hash", "audit_event", ["previous_hash"], unique=True)
    for statement in REFUSE_CHANGES[connection.dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("The chain of the audit rows has no place in the schema before it: restore a backup.")
