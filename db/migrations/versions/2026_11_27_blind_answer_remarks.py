"""what was said beside a blind answer: a comment, additions, marks on the film"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("blind_answer", sa.Column("comment", sa.Text(), nullable=True))
    op.add_column("blind_answer", sa.Column("details", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    raise NotImplementedError("What was said beside blind answers has no place in the schema before: restore a backup.")
