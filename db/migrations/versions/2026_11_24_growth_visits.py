"""growth visits of a child, and how early the child was born"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("patient", sa.Column("gestational_age_weeks", sa.Double(), nullable=True))
    op.create_table(
        "growth_visit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_fk", sa.Integer(), nullable=False),
        sa.Column("measured_on", sa.Date(), nullable=False),
        sa.Column("length_height_cm", sa.Double(), nullable=True),
        sa.Column(
            "position",
            sa.Enum("lying", "standing", name="position", native_enum=False, create_constraint=True, length=24),
            nullable=True,
        ),
        sa.Column("weight_kg", sa.Double(), nullable=True),
        sa.Column("head_circumference_cm", sa.Double(), nullable=True),
        sa.Column("oedema", sa.Boolean(), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=True),
        sa.Column("supplied_height_for_age_z", sa.Double(), nullable=True),
        sa.Column("supplied_weight_for_age_z", sa.Double(), nullable=True),
        sa.Column("supplied_bmi_for_age_z", sa.Double(), nullable=True),
        sa.Column("supplied_head_circumference_for_age_z", sa.Double(), nullable=True),
        sa.Column("age_months", sa.Double(), nullable=True),
        sa.Column("height_for_age_z", sa.Double(), nullable=True),
        sa.Column("weight_for_age_z", sa.Double(), nullable=True),
        sa.Column("bmi_for_age_z", sa.Double(), nullable=True),
        sa.Column("head_circumference_for_age_z", sa.Double(), nullable=True),
        sa.Column("doubts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column(
            "source",
            sa.Enum("form", "file", name="visitsource", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("source_sha256", sa.String(length=64), nullable=True),
        sa.Column("source_line", sa.Integer(), nullable=True),
        sa.Column("is_phantom", sa.Boolean(), nullable=False),
        sa.Column("entered_by", sa.String(length=64), nullable=False),
        sa.Column("entered_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_by", sa.String(length=64), nullable=True),
        sa.Column("withdrawn_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "length_height_cm IS NOT NULL OR weight_kg IS NOT NULL OR head_circumference_cm IS NOT NULL",
            name=op.f("ck_growth_visit_something_measured"),
        ),
        sa.CheckConstraint(
            "(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name=op.f("ck_growth_visit_withdrawn_by_somebody")
        ),
        sa.ForeignKeyConstraint(["patient_fk"], ["patient.id"], name=op.f("fk_growth_visit_patient_fk_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_growth_visit")),
    )
    op.create_index("ix_growth_visit_patient_fk", "growth_visit", ["patient_fk"])
    op.create_index(
        "uq_growth_visit_patient_fk_measured_on",
        "growth_visit",
        ["patient_fk", "measured_on"],
        unique=True,
        sqlite_where=sa.text("withdrawn_at IS NULL"),
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.create_index(
        "ix_growth_visit_figures",
        "growth_visit",
        [
            "is_phantom",
            "withdrawn_at",
            "patient_fk",
            "measured_on",
            "age_months",
            "site",
            "height_for_age_z",
            "weight_for_age_z",
            "bmi_for_age_z",
            "head_circumference_for_age_z",
        ],
    )


def downgrade() -> None:
    raise NotImplementedError("Growth visits have no place in the schema before this: restore a backup.")
