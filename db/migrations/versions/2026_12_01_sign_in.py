"""passwords, browsers that are signed in, failed attempts, and who is away at the identity provider"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.types

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = db.types.UTCDateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "credential",
        sa.Column("account_fk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=True),
        sa.Column("oidc_subject", sa.String(length=255), nullable=True),
        sa.Column("disabled_at", TIME, nullable=True),
        sa.Column("last_seen_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_fk"], ["user_account.id"], name=op.f("fk_credential_account_fk_user_account")
        ),
        sa.PrimaryKeyConstraint("account_fk", name=op.f("pk_credential")),
        sa.UniqueConstraint("issuer", "oidc_subject", name=op.f("uq_credential_issuer_oidc_subject")),
    )
    op.create_table(
        "web_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("account_fk", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("active_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("browser", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_fk"], ["user_account.id"], name=op.f("fk_web_session_account_fk_user_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_session")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_web_session_token_sha256")),
    )
    op.create_index(op.f("ix_web_session_account_fk"), "web_session", ["account_fk"])
    op.create_index(op.f("ix_web_session_ends_at"), "web_session", ["ends_at"])
    op.create_table(
        "sign_in_failure",
        sa.Column("tried", sa.String(length=80), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("blocked_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("tried", name=op.f("pk_sign_in_failure")),
    )
    op.create_index(op.f("ix_sign_in_failure_last_at"), "sign_in_failure", ["last_at"])
    op.create_table(
        "oidc_flow",
        sa.Column("state_sha256", sa.String(length=64), nullable=False),
        sa.Column("browser_sha256", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("code_verifier", sa.String(length=128), nullable=False),
        sa.Column("next_path", sa.String(length=2000), nullable=False),
        sa.Column("must_be_fresh", sa.Boolean(), nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("state_sha256", name=op.f("pk_oidc_flow")),
    )
    op.create_index(op.f("ix_oidc_flow_ends_at"), "oidc_flow", ["ends_at"])


def downgrade() -> None:
    for table in ("oidc_flow", "sign_in_failure", "web_session", "credential"):
        op.drop_table(table)
