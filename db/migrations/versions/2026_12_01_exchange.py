"""what runs between the hospital's systems and us: loops, senders, and who was turned away"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

CHANNEL = sa.Enum(
    "storage_scp",
    "orthanc",
    "stow",
    "watched_folder",
    name="channel",
    native_enum=False,
    create_constraint=True,
    length=24,
)


def upgrade() -> None:
    op.create_table(
        "exchange_loop",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("started_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("heard_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_exchange_loop")),
    )
    op.create_table(
        "exchange_sender",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", CHANNEL, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("first_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("last_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("quarantined", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_sender")),
        sa.UniqueConstraint("channel", "name", name=op.f("uq_exchange_sender_channel_name")),
    )
    op.create_table(
        "exchange_refusal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", CHANNEL, nullable=False),
        sa.Column("sender", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("last_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_refusal")),
        sa.UniqueConstraint(
            "channel", "sender", "address", "code", name=op.f("uq_exchange_refusal_channel_sender_address_code")
        ),
    )
    op.create_index("ix_exchange_refusal_last_at", "exchange_refusal", ["last_at"])


def downgrade() -> None:
    for table in ("exchange_refusal", "exchange_sender", "exchange_loop"):
        op.drop_table(table)
