"""What `pediscreen report` does: the documents of a signed study as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.session import session_scope
from engine.interop.documents import Document, documents_of, why_not
from engine.interop.signed_study import DocumentKind, SignedStudy
from engine.services import signed_studies
from engine.services.accounts import service_actor


@dataclass(frozen=True)
class Written:
    signed: SignedStudy
    documents: tuple[tuple[Path, Document], ...]
    left_out: tuple[str, ...]  # kinds of which there is none, with the reason

    def as_json(self) -> dict[str, Any]:
        return {
            "study": self.signed.study_id,
            "revision": self.signed.revision,
            "replaces": self.signed.replaced_revision,
            "withdrawn": self.signed.is_withdrawn,
            "phantom": self.signed.is_phantom,
            "documents": [
                {"kind": one.kind.value, "uid": one.uid, "path": str(path), "media_type": one.media_type}
                for path, one in self.documents
            ],
            "left_out": list(self.left_out),
        }

    def as_text(self) -> str:
        return "\n".join(str(path) for path, _ in self.documents)


def write_report(database_url: str, study_id: int, out_dir: Path, *, with_comments: bool = False) -> Written:
    """Files of the same names are replaced. Raises NotFound, DocumentRefused."""
    with session_scope(database_url) as session:
        signed = signed_studies.issue(session, service_actor("cli"), study_id)
    documents = documents_of(signed, with_comments=with_comments)
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for document in documents:
        path = out_dir / document.file_name
        path.write_bytes(document.content)
        written.append((path, document))
    refusals = [(kind, why_not(signed, kind)) for kind in DocumentKind]
    left_out = tuple(f"no {kind.replace('_', ' ')}: {why}" for kind, why in refusals if why is not None)
    return Written(signed, tuple(written), left_out)
