"""what goes out: the destinations, and how far each version of a study's report has come"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STATES = ("waiting", "sending", "sent", "failed", "refused", "given_up", "overtaken")


def upgrade() -> None:
    op.create_table(
        "sending_destination",
        sa.Column("name", sa.String(length=24), nullable=False),
        sa.Column("sends_from", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("reached_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("paused_until", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sending_destination")),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(length=24), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", _one_of("deliverykind", "report", "withdrawal"), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("through_review_id", sa.Integer(), nullable=False),
        sa.Column("state", _one_of("deliverystate", *STATES), nullable=False),
        sa.Column("due_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("sender", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("may_have_arrived", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("tried_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("sent_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["destination"], ["sending_destination.name"], name=op.f("fk_delivery_destination_sending_destination")
        ),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_delivery_study_fk_study")),
        sa.ForeignKeyConstraint(["through_review_id"], ["review.id"], name="fk_delivery_through_review_id_review"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint(
            "study_fk", "destination", "version", name=op.f("uq_delivery_study_fk_destination_version")
        ),
    )
    op.create_index("ix_delivery_destination_state_due_at", "delivery", ["destination", "state", "due_at"])
    op.create_index("ix_delivery_study_fk", "delivery", ["study_fk"])
    op.create_index("ix_delivery_through_review_id", "delivery", ["through_review_id"])


def downgrade() -> None:
    op.drop_table("delivery")
    op.drop_table("sending_destination")


def _one_of(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=24)
