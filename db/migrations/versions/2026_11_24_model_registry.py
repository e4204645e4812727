"""model registry: lineage, the pointer to the model in use, data sets, retrain runs, shadow reads

Columns are added to model_version where it stands: batch mode would drop and rebuild the table, and every read refers
to it. SQLite can add a column with its constraints only in one statement, which PostgreSQL understands too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_set",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("left_out", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_set")),
        sa.UniqueConstraint("sha256", name=op.f("uq_data_set_sha256")),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model_version_fk", sa.Integer(), nullable=True),
        sa.Column(
            "kind",
            sa.Enum(
                "promotion", "rollback", name="deploymentkind", native_enum=False, create_constraint=True, length=24
            ),
            nullable=False,
        ),
        sa.Column("deployed_by", sa.String(length=64), nullable=False),
        sa.Column("deployed_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("change_record", sa.String(length=255), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("previous_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_version_fk"], ["model_version.id"], name=op.f("fk_deployment_model_version_fk_model_version")
        ),
        sa.ForeignKeyConstraint(["previous_id"], ["deployment.id"], name=op.f("fk_deployment_previous_id_deployment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    with op.batch_alter_table("deployment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deployment_model_version_fk"), ["model_version_fk"], unique=False)

    op.create_table(
        "retrain_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "awaiting_signature",
                "promoted",
                "held",
                "failed",
                "cancelled",
                name="retrainstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column(
            "unfinished",
            sa.Integer(),
            sa.Computed("CASE WHEN state IN ('queued', 'running', 'awaiting_signature') THEN 1 END", persisted=True),
            nullable=True,
        ),
        sa.Column(
            "step",
            sa.Enum(
                "snapshot",
                "train",
                "merge",
                "evaluate",
                "gate",
                name="retrainstep",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=True,
        ),
        sa.Column("started_by", sa.String(length=64), nullable=False),
        sa.Column("started_at", db.types.UTCDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", db.types.UTCDateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("data_set_fk", sa.Integer(), nullable=True),
        sa.Column("candidate_fk", sa.Integer(), nullable=True),
        sa.Column("decision", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cancel_requested_by", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["candidate_fk"], ["model_version.id"], name=op.f("fk_retrain_run_candidate_fk_model_version")
        ),
        sa.ForeignKeyConstraint(["data_set_fk"], ["data_set.id"], name=op.f("fk_retrain_run_data_set_fk_data_set")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrain_run")),
        sa.UniqueConstraint("candidate_fk", name=op.f("uq_retrain_run_candidate_fk")),
        sa.UniqueConstraint("unfinished", name=op.f("uq_retrain_run_unfinished")),
    )
    op.create_table(
        "shadow_read",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column("model_version_fk", sa.Integer(), nullable=False),
        sa.Column("read_round", sa.Integer(), nullable=False),
        sa.Column("prediction_fk", sa.Integer(), nullable=False),
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
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_shadow_read_image_fk_image")),
        sa.ForeignKeyConstraint(
            ["model_version_fk"], ["model_version.id"], name=op.f("fk_shadow_read_model_version_fk_model_version")
        ),
        sa.ForeignKeyConstraint(
            ["prediction_fk"], ["prediction.id"], name=op.f("fk_shadow_read_prediction_fk_prediction")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_read")),
        sa.UniqueConstraint(
            "image_fk",
            "model_version_fk",
            "read_round",
            name=op.f("uq_shadow_read_image_fk_model_version_fk_read_round"),
        ),
    )
    with op.batch_alter_table("shadow_read", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_shadow_read_model_version_fk"), ["model_version_fk"], unique=False)

    op.create_table(
        "data_set_review",
        sa.Column("data_set_fk", sa.Integer(), nullable=False),
        sa.Column("review_fk", sa.Integer(), nullable=False),
        sa.Column("image_fk", sa.Integer(), nullable=False),
        sa.Column(
            "split",
            sa.Enum("train", "val", "test", name="split", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["data_set_fk"], ["data_set.id"], name=op.f("fk_data_set_review_data_set_fk_data_set")),
        sa.ForeignKeyConstraint(["image_fk"], ["image.id"], name=op.f("fk_data_set_review_image_fk_image")),
        sa.ForeignKeyConstraint(["review_fk"], ["review.id"], name=op.f("fk_data_set_review_review_fk_review")),
        sa.PrimaryKeyConstraint("data_set_fk", "review_fk", name=op.f("pk_data_set_review")),
    )
    with op.batch_alter_table("data_set_review", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_data_set_review_image_fk"), ["image_fk"], unique=False)
        batch_op.create_index(batch_op.f("ix_data_set_review_review_fk"), ["review_fk"], unique=False)

    op.execute(
        "ALTER TABLE model_version ADD COLUMN state VARCHAR(24) NOT NULL DEFAULT 'retired' "
        "CONSTRAINT modelstate CHECK (state IN ('candidate', 'shadow', 'in_use', 'retired'))"
    )
    op.add_column("model_version", sa.Column("folder", sa.String(length=255), nullable=True))
    op.execute(
        "ALTER TABLE model_version ADD COLUMN folder_sha256 VARCHAR(64) "
        "CONSTRAINT ck_model_version_folder_has_a_hash CHECK ((folder IS NULL) = (folder_sha256 IS NULL))"
    )
    op.add_column("model_version", sa.Column("base_model", sa.String(length=200), nullable=True))
    op.add_column("model_version", sa.Column("adapter_sha256", sa.String(length=64), nullable=True))
    op.execute(
        "ALTER TABLE model_version ADD COLUMN data_set_fk INTEGER "
        "CONSTRAINT fk_model_version_data_set_fk_data_set REFERENCES data_set (id)"
    )
    op.add_column("model_version", sa.Column("code_version", sa.String(length=64), nullable=True))
    op.add_column("model_version", sa.Column("settings", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("model_version", sa.Column("metrics", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("model_version", sa.Column("shadow_since", db.types.UTCDateTime(timezone=True), nullable=True))
    op.add_column("model_version", sa.Column("shadow_from_prediction", sa.Integer(), nullable=True))
    op.create_index("ix_model_version_folder", "model_version", ["folder"], unique=True)
    # until a worker says what it has loaded, the latest that read here
    op.execute("UPDATE model_version SET state = 'in_use' WHERE id = (SELECT MAX(id) FROM model_version)")


def downgrade() -> None:
    raise NotImplementedError("What the registry holds has no place in the schema before it: restore a backup.")
