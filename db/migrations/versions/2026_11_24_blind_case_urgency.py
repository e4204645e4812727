"""what a blind case sorts by for its reader: as urgent as it was before anybody had decided it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("blind_case", sa.Column("urgency_rank", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("blind_case", sa.Column("act_by", sa.Date(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("What blind readers said has no place in the schema before it: restore a backup.")
