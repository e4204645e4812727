"""the worklist as shared work: claims, assignments, hand-over notes, saved filters, drafts; the day by which a case has
to be acted on, and what a model could learn from it

Columns are added to study where it stands: batch mode would rebuild the table, and every image refers to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_filter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_fk", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("filter", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner_fk"], ["user_account.id"], name=op.f("fk_saved_filter_owner_fk_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_filter")),
        sa.UniqueConstraint("owner_fk", "name", name=op.f("uq_saved_filter_owner_fk_name")),
    )
    op.create_table(
        "assignment",
        sa.Column("study_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reader_fk", sa.Integer(), nullable=False),
        sa.Column("assigned_by", sa.String(length=64), nullable=False),
        sa.Column("assigned_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_assignment_reader_fk_user_account")),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_assignment_study_fk_study")),
        sa.PrimaryKeyConstraint("study_fk", name=op.f("pk_assignment")),
    )
    op.create_index("ix_assignment_reader_fk", "assignment", ["reader_fk"])

    op.create_table(
        "claim",
        sa.Column("study_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reader_fk", sa.Integer(), nullable=False),
        sa.Column("taken_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("ends_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_claim_reader_fk_user_account")),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_claim_study_fk_study")),
        sa.PrimaryKeyConstraint("study_fk", name=op.f("pk_claim")),
    )
    op.create_index("ix_claim_reader_fk", "claim", ["reader_fk"])

    op.create_table(
        "hand_over_note",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=True),
        sa.Column("author_fk", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("settled_by", sa.String(length=64), nullable=True),
        sa.Column("settled_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["author_fk"], ["user_account.id"], name=op.f("fk_hand_over_note_author_fk_user_account")
        ),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_hand_over_note_study_fk_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hand_over_note")),
    )
    op.create_index("ix_hand_over_note_settled_at", "hand_over_note", ["settled_at"])
    op.create_index("ix_hand_over_note_study_fk", "hand_over_note", ["study_fk"])

    op.create_table(
        "draft",
        sa.Column("image_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reader_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fields", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("kept_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_draft_image_fk_image")),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_draft_reader_fk_user_account")),
        sa.PrimaryKeyConstraint("image_fk", "reader_fk", name=op.f("pk_draft")),
    )
    op.add_column("study", sa.Column("act_by", sa.Date(), nullable=True))
    op.add_column("study", sa.Column("learn_value", sa.Double(), nullable=True))
    op.add_column("study", sa.Column("learn_group", sa.String(length=200), nullable=True))
    op.drop_index("ix_study_status_urgency_rank_acquired_on", table_name="study")
    op.drop_index("ix_study_urgency_rank_acquired_on", table_name="study")
    op.create_index("ix_study_status_learn_group", "study", ["status", "learn_group"])
    op.create_index("ix_study_status_urgency_rank_act_by", "study", ["status", "urgency_rank", "act_by", "acquired_on"])
    op.create_index("ix_study_urgency_rank_act_by", "study", ["urgency_rank", "act_by", "acquired_on"])


def downgrade() -> None:
    raise NotImplementedError("What readers typed and noted has no place in the schema before: restore a backup.")
