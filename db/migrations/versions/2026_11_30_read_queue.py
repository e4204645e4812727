"""which images are read first, which worker has an image in hand, and how often its read was begun"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("image", sa.Column("read_first", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("image", sa.Column("read_worker", sa.String(length=64), nullable=True))
    op.add_column("image", sa.Column("read_starts", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("read_starts", "read_worker", "read_first"):
        op.drop_column("image", column)
