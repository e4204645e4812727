"""the hash of a decoded film, which is checked whenever it is opened; NULL: decode it again"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("image", sa.Column("film_sha256", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("image", "film_sha256")
