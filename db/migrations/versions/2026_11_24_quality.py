"""quality: blind-first answers, second reads and gold cases with what their readers said, the rules per task

The column of review is added where it stands: batch mode would drop and rebuild the table, and much refers to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quality_rule",
        sa.Column(
            "task",
            sa.Enum("bone_age", "rop", "fracture", name="task", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("blind_first", sa.Boolean(), nullable=False),
        sa.Column("second_read_share", sa.Double(), nullable=False),
        sa.Column("gold_every", sa.Integer(), nullable=False),
        sa.Column("changed_by", sa.String(length=64), nullable=False),
        sa.Column("changed_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_quality_rule")),
    )
    op.create_table(
        "blind_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("reader_fk", sa.Integer(), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_blind_answer_image_fk_image")),
        sa.ForeignKeyConstraint(
            ["reader_fk"], ["user_account.id"], name=op.f("fk_blind_answer_reader_fk_user_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_answer")),
        sa.UniqueConstraint("image_fk", "reader_fk", name=op.f("uq_blind_answer_image_fk_reader_fk")),
    )
    with op.batch_alter_table("blind_answer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blind_answer_reader_fk"), ["reader_fk"], unique=False)

    op.create_table(
        "gold_case",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("made_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("retired_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_gold_case_image_fk_image")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gold_case")),
        sa.UniqueConstraint("image_fk", name=op.f("uq_gold_case_image_fk")),
    )
    op.create_table(
        "blind_case",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("second", "gold", name="blindkind", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "open",
                "agrees",
                "differs",
                "settled",
                "void",
                name="blindstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=False),
        sa.Column("reader_fk", sa.Integer(), nullable=True),
        sa.Column(
            "verdict",
            sa.Enum(
                "confirmed",
                "corrected",
                "rejected",
                "withdrawn",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=True,
        ),
        sa.Column("first_review_fk", sa.Integer(), nullable=True),
        sa.Column("first_reader_fk", sa.Integer(), nullable=True),
        sa.Column("adjudication_fk", sa.Integer(), nullable=True),
        sa.Column("gold_fk", sa.Integer(), nullable=True),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["adjudication_fk"], ["review.id"], name=op.f("fk_blind_case_adjudication_fk_review")),
        sa.ForeignKeyConstraint(
            ["first_reader_fk"], ["user_account.id"], name=op.f("fk_blind_case_first_reader_fk_user_account")
        ),
        sa.ForeignKeyConstraint(["first_review_fk"], ["review.id"], name=op.f("fk_blind_case_first_review_fk_review")),
        sa.ForeignKeyConstraint(["gold_fk"], ["gold_case.id"], name=op.f("fk_blind_case_gold_fk_gold_case")),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_blind_case_image_fk_image")),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_blind_case_reader_fk_user_account")),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_blind_case_study_fk_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_case")),
    )
    with op.batch_alter_table("blind_case", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blind_case_adjudication_fk"), ["adjudication_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_case_first_review_fk"), ["first_review_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_case_gold_fk"), ["gold_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_case_image_fk"), ["image_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_case_reader_fk"), ["reader_fk"], unique=False)
        batch_op.create_index("ix_blind_case_state_kind", ["state", "kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_case_study_fk"), ["study_fk"], unique=False)

    op.create_table(
        "blind_read",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("blind_case_fk", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("prediction_fk", sa.Integer(), nullable=True),
        sa.Column("reader_fk", sa.Integer(), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum(
                "confirmed",
                "corrected",
                "rejected",
                "withdrawn",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column(
            "reject_reason",
            sa.Enum(
                "wrong_side",
                "poor_quality",
                "wrong_child",
                "wrong_view",
                "not_readable",
                "other",
                name="rejectreason",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=True,
        ),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("blind_answer_fk", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["blind_answer_fk"], ["blind_answer.id"], name=op.f("fk_blind_read_blind_answer_fk_blind_answer")
        ),
        sa.ForeignKeyConstraint(
            ["blind_case_fk"], ["blind_case.id"], name=op.f("fk_blind_read_blind_case_fk_blind_case")
        ),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_blind_read_image_fk_image")),
        sa.ForeignKeyConstraint(
            ["prediction_fk"], ["prediction.id"], name=op.f("fk_blind_read_prediction_fk_prediction")
        ),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_blind_read_reader_fk_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_read")),
        sa.UniqueConstraint("blind_case_fk", "revision", name=op.f("uq_blind_read_blind_case_fk_revision")),
    )
    with op.batch_alter_table("blind_read", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blind_read_blind_answer_fk"), ["blind_answer_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_read_prediction_fk"), ["prediction_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_blind_read_reader_fk"), ["reader_fk"], unique=False)

    op.execute(
        "ALTER TABLE review ADD COLUMN blind_answer_fk INTEGER "
        "CONSTRAINT fk_review_blind_answer_fk_blind_answer REFERENCES blind_answer (id)"
    )
    op.create_index("ix_review_blind_answer_fk", "review", ["blind_answer_fk"])


def downgrade() -> None:
    raise NotImplementedError("What blind readers said has no place in the schema before it: restore a backup.")
