"""first schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.create_index("ix_audit_event_at", ["at"], unique=False)
        batch_op.create_index("ix_audit_event_subject", ["subject"], unique=False)

    op.create_table(
        "model_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("is_phantom", sa.Boolean(), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("name", name=op.f("uq_model_version_name")),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pseudonym", sa.String(length=16), nullable=False),
        sa.Column("patient_id", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=128), nullable=False),
        sa.Column(
            "sex", sa.Enum("M", "F", name="sex", native_enum=False, create_constraint=True, length=24), nullable=True
        ),
        sa.Column("birth_date", sa.Date(), nullable=True),
        sa.Column("sex_entered_by", sa.String(length=64), nullable=True),
        sa.Column("birth_date_entered_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint("patient_id", "issuer", name=op.f("uq_patient_patient_id_issuer")),
        sa.UniqueConstraint("pseudonym", name=op.f("uq_patient_pseudonym")),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("file_sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("is_alert", sa.Boolean(), nullable=False),
        sa.Column("times_received", sa.Integer(), nullable=False),
        sa.Column("received_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("received_from", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum("open", "dismissed", name="quarantinestate", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("dismissed_by", sa.String(length=64), nullable=True),
        sa.Column("dismissed_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("file_sha256", "code", "file_name", name=op.f("uq_quarantine_file_sha256_code_file_name")),
    )
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.create_index("ix_quarantine_state_received_at", ["state", "received_at"], unique=False)

    op.create_table(
        "user_account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.String(length=128), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "reader",
                "adjudicator",
                "admin",
                "service",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("pseudonym", sa.String(length=16), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("pseudonym", name=op.f("uq_user_account_pseudonym")),
        sa.UniqueConstraint("username", name=op.f("uq_user_account_username")),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("model_version", sa.String(length=200), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
    )
    op.create_table(
        "study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_fk", sa.Integer(), nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("acquired_on", sa.Date(), nullable=True),
        sa.Column("received_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=True),
        sa.Column(
            "task",
            sa.Enum("bone_age", "rop", "fracture", name="task", native_enum=False, create_constraint=True, length=24),
            nullable=True,
        ),
        sa.Column(
            "task_source",
            sa.Enum(
                "tags", "triage", "reader", name="tasksource", native_enum=False, create_constraint=True, length=24
            ),
            nullable=True,
        ),
        sa.Column(
            "status",
            sa.Enum(
                "awaiting_read",
                "awaiting_review",
                "reviewed",
                "rejected",
                name="studystatus",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column(
            "urgency",
            sa.Enum(
                "none",
                "soon",
                "urgent",
                "immediate",
                name="urgency",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column(
            "urgency_rank",
            sa.Integer(),
            sa.Computed(
                "CASE urgency WHEN 'immediate' THEN 3 WHEN 'urgent' THEN 2 WHEN 'soon' THEN 1 ELSE 0 END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("urgency_reason", sa.Text(), nullable=True),
        sa.Column("urgency_unverified", sa.Boolean(), nullable=False),
        sa.Column("age_months", sa.Double(), nullable=True),
        sa.Column("warnings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("is_phantom", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["patient_fk"], ["patient.id"], name=op.f("fk_study_patient_fk_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_study_study_instance_uid")),
    )
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.create_index("ix_study_acquired_on", ["acquired_on"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_patient_fk"), ["patient_fk"], unique=False)
        batch_op.create_index("ix_study_received_at", ["received_at"], unique=False)
        batch_op.create_index(
            "ix_study_status_urgency_rank_acquired_on", ["status", "urgency_rank", "acquired_on"], unique=False
        )
        batch_op.create_index("ix_study_urgency_rank_acquired_on", ["urgency_rank", "acquired_on"], unique=False)

    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_fk", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("file_sha256", sa.String(length=64), nullable=False),
        sa.Column("pixel_sha256", sa.String(length=64), nullable=False),
        sa.Column("source_format", sa.String(length=8), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("body_part", sa.String(length=64), nullable=True),
        sa.Column("view_position", sa.String(length=64), nullable=True),
        sa.Column(
            "laterality",
            sa.Enum("L", "R", name="laterality", native_enum=False, create_constraint=True, length=24),
            nullable=True,
        ),
        sa.Column("laterality_entered_by", sa.String(length=64), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("cols", sa.Integer(), nullable=False),
        sa.Column("burned_in_annotation", sa.String(length=16), nullable=True),
        sa.Column(
            "read_state",
            sa.Enum(
                "queued", "done", "blocked", name="readstate", native_enum=False, create_constraint=True, length=24
            ),
            nullable=False,
        ),
        sa.Column("read_blocked_reason", sa.Text(), nullable=True),
        sa.Column("read_round", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name=op.f("fk_image_study_fk_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("file_sha256", name=op.f("uq_image_file_sha256")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_image_sop_instance_uid")),
    )
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_pixel_sha256"), ["pixel_sha256"], unique=False)
        batch_op.create_index(batch_op.f("ix_image_read_state"), ["read_state"], unique=False)
        batch_op.create_index(batch_op.f("ix_image_study_fk"), ["study_fk"], unique=False)

    op.create_table(
        "prediction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("model_version_fk", sa.Integer(), nullable=False),
        sa.Column("read_round", sa.Integer(), nullable=False),
        sa.Column(
            "task",
            sa.Enum("bone_age", "rop", "fracture", name="task", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("probabilities", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("median_months", sa.Integer(), nullable=True),
        sa.Column("interval_low_months", sa.Integer(), nullable=True),
        sa.Column("interval_high_months", sa.Integer(), nullable=True),
        sa.Column("abstained", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("milliseconds", sa.Double(), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_prediction_image_fk_image")),
        sa.ForeignKeyConstraint(
            ["model_version_fk"], ["model_version.id"], name=op.f("fk_prediction_model_version_fk_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prediction")),
        sa.UniqueConstraint(
            "image_fk",
            "model_version_fk",
            "read_round",
            name=op.f("uq_prediction_image_fk_model_version_fk_read_round"),
        ),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("supersedes_id", sa.Integer(), nullable=True),
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
        sa.CheckConstraint("(revision = 1) = (supersedes_id IS NULL)", name=op.f("ck_review_first_supersedes_nothing")),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_review_image_fk_image")),
        sa.ForeignKeyConstraint(["prediction_fk"], ["prediction.id"], name=op.f("fk_review_prediction_fk_prediction")),
        sa.ForeignKeyConstraint(["reader_fk"], ["user_account.id"], name=op.f("fk_review_reader_fk_user_account")),
        sa.ForeignKeyConstraint(["supersedes_id"], ["review.id"], name=op.f("fk_review_supersedes_id_review")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("image_fk", "revision", name=op.f("uq_review_image_fk_revision")),
        sa.UniqueConstraint("supersedes_id", name=op.f("uq_review_supersedes_id")),
    )
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_review_prediction_fk"), ["prediction_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_reader_fk"), ["reader_fk"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_review_reader_fk"))
        batch_op.drop_index(batch_op.f("ix_review_prediction_fk"))

    op.drop_table("review")
    op.drop_table("prediction")
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_study_fk"))
        batch_op.drop_index(batch_op.f("ix_image_read_state"))
        batch_op.drop_index(batch_op.f("ix_image_pixel_sha256"))

    op.drop_table("image")
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index("ix_study_urgency_rank_acquired_on")
        batch_op.drop_index("ix_study_status_urgency_rank_acquired_on")
        batch_op.drop_index("ix_study_received_at")
        batch_op.drop_index(batch_op.f("ix_study_patient_fk"))
        batch_op.drop_index("ix_study_acquired_on")

    op.drop_table("study")
    op.drop_table("worker")
    op.drop_table("user_account")
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.drop_index("ix_quarantine_state_received_at")

    op.drop_table("quarantine")
    op.drop_table("patient")
    op.drop_table("model_version")
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_event_subject")
        batch_op.drop_index("ix_audit_event_at")

    op.drop_table("audit_event")
