"""what has left of a study as documents, revision by revision"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "issued_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("said_sha256", sa.String(length=64), nullable=False),
        sa.Column("reviews", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("is_withdrawal", sa.Boolean(), nullable=False),
        sa.Column("software", sa.String(length=64), nullable=False),
        sa.Column("issued_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("issued_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_issued_report_study_fk_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issued_report")),
        sa.UniqueConstraint("study_fk", "revision", name=op.f("uq_issued_report_study_fk_revision")),
    )
    with op.batch_alter_table("issued_report") as batch:
        batch.create_index(batch.f("ix_issued_report_study_fk"), ["study_fk"])


def downgrade() -> None:
    op.drop_table("issued_report")
