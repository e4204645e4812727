"""the sites there are, and whether any study is a phantom, without looking through all studies"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_study_site", "study", ["site"])
    op.create_index("ix_study_is_phantom", "study", ["is_phantom"])


def downgrade() -> None:
    op.drop_index("ix_study_is_phantom", "study")
    op.drop_index("ix_study_site", "study")
