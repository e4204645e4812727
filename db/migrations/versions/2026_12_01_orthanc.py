"""how far each Orthanc has been followed, and what it announced"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATES = ("waiting", "ready", "done", "other", "gone")


def upgrade() -> None:
    op.create_table(
        "orthanc_source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(length=255), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_change", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orthanc_source")),
        sa.UniqueConstraint("url", name=op.f("uq_orthanc_source_url")),
    )
    op.create_table(
        "orthanc_instance",
        sa.Column("source_fk", sa.Integer(), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("change", sa.String(length=128), nullable=False),
        sa.Column(
            "state",
            sa.Enum(*STATES, name="fetchstate", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("announced_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("try_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("done_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["source_fk"], ["orthanc_source.id"], name=op.f("fk_orthanc_instance_source_fk_orthanc_source")
        ),
        sa.PrimaryKeyConstraint("source_fk", "instance", name=op.f("pk_orthanc_instance")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_orthanc_instance_source_fk_state", "orthanc_instance", ["source_fk", "state", "try_at"])


def downgrade() -> None:
    for table in ("orthanc_instance", "orthanc_source"):
        op.drop_table(table)
