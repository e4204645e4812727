"""where an audited action came from"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("origin", sa.String(length=128), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("audit_event", "origin")
