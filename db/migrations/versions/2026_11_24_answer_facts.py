"""answer facts and film statistics, for the dashboards

A database that has decisions already gets its facts from engine.services.answer_facts.fill_missing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answer_fact",
        sa.Column(
            "task",
            sa.Enum("bone_age", "rop", "fracture", name="task", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column(
            "kind",
            sa.Enum(
                "model",
                "blind",
                "second",
                "gold",
                name="answerkind",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("patient_fk", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("reader_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model_version_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_reader_fk", sa.Integer(), nullable=True),
        sa.Column("is_in_force", sa.Boolean(), nullable=False),
        sa.Column("is_shown", sa.Boolean(), nullable=False),
        sa.Column("is_answered", sa.Boolean(), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=True),
        sa.Column(
            "sex", sa.Enum("M", "F", name="sex", native_enum=False, create_constraint=True, length=24), nullable=True
        ),
        sa.Column("age_months", sa.Double(), nullable=True),
        sa.Column("is_phantom", sa.Boolean(), nullable=False),
        sa.Column("read_hour", sa.Integer(), nullable=True),
        sa.Column("decided_hour", sa.Integer(), nullable=True),
        sa.Column("decided_month", sa.Integer(), nullable=True),
        sa.Column("turnaround_minutes", sa.Integer(), nullable=True),
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
        sa.Column("seconds_tenths", sa.Integer(), nullable=True),
        sa.Column(
            "influence",
            sa.Enum(
                "agreed",
                "kept",
                "towards",
                "otherwise",
                name="influence",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=True,
        ),
        sa.Column("label_months", sa.Integer(), nullable=True),
        sa.Column("read_months", sa.Integer(), nullable=True),
        sa.Column("interval_low_months", sa.Integer(), nullable=True),
        sa.Column("interval_high_months", sa.Integer(), nullable=True),
        sa.Column("below_label", sa.Integer(), nullable=True),
        sa.Column("through_label", sa.Integer(), nullable=True),
        sa.Column("label_zone", sa.String(length=16), nullable=True),
        sa.Column("read_zone", sa.String(length=16), nullable=True),
        sa.Column("sure_zone", sa.Integer(), nullable=True),
        sa.Column("zone_i", sa.Integer(), nullable=True),
        sa.Column("zone_ii", sa.Integer(), nullable=True),
        sa.Column("zone_iii", sa.Integer(), nullable=True),
        sa.Column("zone_none", sa.Integer(), nullable=True),
        sa.Column("label_stage", sa.String(length=16), nullable=True),
        sa.Column("read_stage", sa.String(length=16), nullable=True),
        sa.Column("sure_stage", sa.Integer(), nullable=True),
        sa.Column("stage_0", sa.Integer(), nullable=True),
        sa.Column("stage_1", sa.Integer(), nullable=True),
        sa.Column("stage_2", sa.Integer(), nullable=True),
        sa.Column("stage_3", sa.Integer(), nullable=True),
        sa.Column("stage_4", sa.Integer(), nullable=True),
        sa.Column("stage_5", sa.Integer(), nullable=True),
        sa.Column("label_plus_disease", sa.String(length=16), nullable=True),
        sa.Column("read_plus_disease", sa.String(length=16), nullable=True),
        sa.Column("sure_plus_disease", sa.Integer(), nullable=True),
        sa.Column("plus_disease_none", sa.Integer(), nullable=True),
        sa.Column("plus_disease_preplus", sa.Integer(), nullable=True),
        sa.Column("plus_disease_plus", sa.Integer(), nullable=True),
        sa.Column("label_fracture", sa.String(length=16), nullable=True),
        sa.Column("read_fracture", sa.String(length=16), nullable=True),
        sa.Column("sure_fracture", sa.Integer(), nullable=True),
        sa.Column("fracture_distal_radius", sa.Integer(), nullable=True),
        sa.Column("fracture_buckle", sa.Integer(), nullable=True),
        sa.Column("fracture_normal", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_answer_fact_image_fk_image")),
        sa.ForeignKeyConstraint(["patient_fk"], ["patient.id"], name=op.f("fk_answer_fact_patient_fk_patient")),
        sa.PrimaryKeyConstraint(
            "task", "kind", "patient_fk", "image_fk", "reader_fk", "model_version_fk", name=op.f("pk_answer_fact")
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("answer_fact", schema=None) as batch_op:
        batch_op.create_index("ix_answer_fact_image_fk", ["image_fk"], unique=False)

    op.create_table(
        "film_statistics",
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=False),
        sa.Column("received_hour", sa.Integer(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=False),
        sa.Column("dark_share", sa.Double(), nullable=False),
        sa.Column("sharpness", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_film_statistics_image_fk_image")),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_film_statistics_study_fk_study")),
        sa.PrimaryKeyConstraint("image_fk", name=op.f("pk_film_statistics")),
    )
    with op.batch_alter_table("film_statistics", schema=None) as batch_op:
        batch_op.create_index("ix_film_statistics_received_hour", ["received_hour"], unique=False)


def downgrade() -> None:
    op.drop_table("film_statistics")
    op.drop_table("answer_fact")
