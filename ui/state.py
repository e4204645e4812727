"""Every st.session_state key, behind a named function. The state holds identifiers and choices; facts are in the
database, so that a reload loses nothing that matters."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from db.models import StudyStatus
from engine.services.accounts import Actor, demo_admin
from engine.services.audit import AuditQuery
from engine.services.sessions import SignedIn, SignedOut
from engine.services.worklist import Sort, WorklistFilter
from engine.settings import settings
from engine.sign_in_settings import Login
from ui import who

SIGN_IN = "/sign-in"
WORKLIST, REVIEW, QUARANTINE = "pages/worklist.py", "pages/review.py", "pages/quarantine.py"


# ---------------------------------------------------------------- who


def current_user() -> Actor:
    """Who acts. Looked up anew each time, by what the browser sent as it connected: somebody who was signed out or
    disabled meanwhile gets no further. Raises SignedOut."""
    return _session().actor


def session_or_stop() -> SignedIn:
    """Whose session it is; where it is over the page ends here, with the way back in."""
    try:
        return _session()
    except SignedOut as error:
        st.error(f"{error} [Sign in]({SIGN_IN})")
        st.stop()


def administrator() -> Actor:
    """Who acts on a page of administration: in the demo the demo admin, whoever opens it."""
    return demo_admin() if settings().sign_in.login is Login.DEMO else current_user()


def _session() -> SignedIn:
    found = who.signed_in(st.context.cookies)
    if found is None or not found.may_work:
        raise SignedOut("Your session has ended.")
    return found


# ---------------------------------------------------------------- the worklist


def worklist_filter() -> WorklistFilter:
    """What the worklist shows, and the order in which cases follow each other in review."""
    return st.session_state.get("worklist_filter", WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,)))


def set_worklist_filter(filter: WorklistFilter) -> None:
    """A changed filter starts at its first page."""
    if filter != worklist_filter():
        st.session_state["worklist_filter"] = filter
        st.session_state.pop("worklist_page", None)


def worklist_page_key() -> str:
    return "worklist_page"


def sort_worklist(column: str) -> None:
    """By `column`; a second time the other way round."""
    current = worklist_filter()
    again = current.sort == column
    set_worklist_filter(replace(current, sort=Sort(column), descending=again and not current.descending))


# ---------------------------------------------------------------- the audit log


def audit_page() -> int:
    return st.session_state.get("audit_page", 1)


def audit_page_key() -> str:
    return "audit_page"


def audit_query_is(query: AuditQuery) -> None:
    """Other rows start at their first page."""
    if st.session_state.get("audit_query", query) != query:
        st.session_state.pop("audit_page", None)
    st.session_state["audit_query"] = query


# ---------------------------------------------------------------- the open case


def selected_study() -> int | None:
    """From the address, so that a case can be linked to and a reload stays on it."""
    value = st.query_params.get("study", "")
    if value.isdecimal():
        st.session_state["study"] = int(value)
    study_id = st.session_state.get("study")
    if study_id is not None:
        st.query_params["study"] = str(study_id)
    return study_id


def select_study(study_id: int) -> None:
    """The case that the review page shows from its next run on."""
    end_sitting()
    st.session_state["study"] = study_id
    st.session_state.pop("image", None)
    st.query_params["study"] = str(study_id)


def open_study(study_id: int) -> None:
    """Go to the study's review page."""
    select_study(study_id)
    st.switch_page(REVIEW, query_params={"study": str(study_id)})


def last_opened() -> int | None:
    return st.session_state.get("study")


def image_key() -> str:
    """The widget that chooses among a study's images."""
    return "image"


def choose_image_next(image_id: int) -> None:
    """Which of the study's images the next run shows: the widget itself may not be changed once it is drawn."""
    st.session_state["next_image"] = image_id


def take_next_image() -> int | None:
    return st.session_state.pop("next_image", None)


@dataclass
class Sitting:
    """One reader in front of one image: since when, and what they have seen of others' decisions."""

    image_id: int
    started: float
    seen_review_id: int | None
    rejecting: bool = False
    conflict: str | None = None
    fields: dict[str, Any] | None = None  # of the form, as last seen; None before it was drawn
    has_draft: bool = False  # it was filled with what was kept from before

    def reject(self) -> None:
        self.rejecting = True

    def do_not_reject(self) -> None:
        self.rejecting = False

    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)


def sitting(image_id: int, latest_review_id: int | None) -> Sitting:
    """Starts when the image is first shown; a decision made by someone else later is one not yet seen."""
    now = st.session_state.get("sitting")
    if now is None or now.image_id != image_id:
        now = Sitting(image_id, time.monotonic(), latest_review_id)
        st.session_state["sitting"] = now
    return now


def end_sitting() -> None:
    st.session_state.pop("sitting", None)


def field_key(name: str, image_id: int) -> str:
    """Widget keys of the finding form: what was typed about an image stays with it."""
    return f"finding_{name}_{image_id}"


def _field_keys(image_id: int) -> list[str]:
    return [key for key in map(str, st.session_state) if key.startswith("finding_") and key.endswith(f"_{image_id}")]


def forget_fields(image_id: int) -> None:
    for key in _field_keys(image_id):
        del st.session_state[key]


def fields(image_id: int) -> dict[str, Any]:
    """What stands in the finding form, by the widgets' names; what was emptied too, or the read would come back in its
    place."""
    values = {key: st.session_state[key] for key in _field_keys(image_id)}
    named = {key.removeprefix("finding_").removesuffix(f"_{image_id}"): value for key, value in values.items()}
    return {name: value for name, value in named.items() if isinstance(value, bool | int | float | str | list | None)}


def fill_fields(image_id: int, kept: dict[str, Any]) -> bool:
    """Ahead of the widgets; whether there was anything to fill in."""
    for name, value in kept.items():
        st.session_state[field_key(name, image_id)] = value
    return bool(kept)


def note_claim_lost() -> None:
    """Another reader has taken the case; the page has to be drawn anew."""
    st.session_state["claim_lost"] = True


def take_claim_lost() -> bool:
    return st.session_state.pop("claim_lost", False)


@dataclass(frozen=True)
class LastDecision:
    study_id: int
    image_id: int
    review_id: int
    words: str


def remember_decision(decision: LastDecision) -> None:
    st.session_state["last_decision"] = decision


def last_decision() -> LastDecision | None:
    """What Undo takes back when the open case has no decision of one's own."""
    return st.session_state.get("last_decision")


def forget_decision() -> None:
    st.session_state.pop("last_decision", None)


# ---------------------------------------------------------------- errors


def keep_error(error: Exception) -> None:
    """Of a callback, for the page or the fragment that runs after it."""
    st.session_state["error_of_callback"] = error


def take_error() -> Exception | None:
    return st.session_state.pop("error_of_callback", None)


# ---------------------------------------------------------------- upload, export


def upload_round() -> int:
    """Part of the uploader's key: a new round empties it."""
    return st.session_state.get("upload_round", 0)


def next_upload_round() -> None:
    st.session_state["upload_round"] = upload_round() + 1


def upload_results() -> list:
    """The outcomes of this session's uploads, the latest first."""
    return st.session_state.setdefault("upload_results", [])


def export_summary():
    """Of this session's latest export, None before."""
    return st.session_state.get("export_summary")


def set_export_summary(summary) -> None:
    st.session_state["export_summary"] = summary


def dicom_export():
    """Of this session's latest export of DICOM files, None before."""
    return st.session_state.get("dicom_export")


def set_dicom_export(done) -> None:
    st.session_state["dicom_export"] = done


# ---------------------------------------------------------------- API access


def new_api_token() -> tuple[str, str] | None:
    """Name and secret of the token that was just made; None once it was copied."""
    return st.session_state.get("new_api_token")


def keep_new_api_token(name: str, secret: str) -> None:
    st.session_state["new_api_token"] = (name, secret)


def forget_new_api_token() -> None:
    st.session_state.pop("new_api_token", None)


# ---------------------------------------------------------------- retraining


def chosen_run() -> int | None:
    """The run whose figures are shown, from the address; None: what is going on now."""
    value = st.query_params.get("run", "")
    return int(value) if value.isdecimal() else None


def choose_run(run_id: int | None) -> None:
    if run_id is None:
        st.query_params.pop("run", None)
    else:
        st.query_params["run"] = str(run_id)
    st.session_state.pop(worse_page_key(), None)


def worse_page_key() -> str:
    """Which of the cases that got worse are shown."""
    return "worse_page"


# ---------------------------------------------------------------- growth


def growth_child() -> int | None:
    """The child whose chart is shown, from the address."""
    value = st.query_params.get("child", "")
    if value.isdecimal():
        st.session_state["growth_child"] = int(value)
    return st.session_state.get("growth_child")


def choose_growth_child(patient_id: int | None) -> None:
    if patient_id is None:
        st.session_state.pop("growth_child", None)
        st.query_params.pop("child", None)
    else:
        st.session_state["growth_child"] = patient_id
        st.query_params["child"] = str(patient_id)


def visit_round() -> int:
    """Part of the keys of the visit form: a new round empties it."""
    return st.session_state.get("visit_round", 0)


def next_visit_round() -> None:
    st.session_state["visit_round"] = visit_round() + 1


def growth_file_round() -> int:
    """Part of the uploader's key: a new round empties it."""
    return st.session_state.get("growth_file_round", 0)


def next_growth_file_round() -> None:
    st.session_state["growth_file_round"] = growth_file_round() + 1
    st.session_state.pop("growth_preview", None)


def growth_preview(key: tuple):
    """What was found for this file and mapping, None when another or nothing was looked at."""
    known, preview = st.session_state.get("growth_preview", (None, None))
    return preview if known == key else None


def keep_growth_preview(key: tuple, preview) -> None:
    st.session_state["growth_preview"] = (key, preview)


def growth_import_summary():
    """Of this session's latest import, None before."""
    return st.session_state.get("growth_import_summary")


def set_growth_import_summary(summary) -> None:
    st.session_state["growth_import_summary"] = summary


# ---------------------------------------------------------------- adjudication


def dispute_key() -> str:
    """The widget that chooses among the disagreements."""
    return "dispute"


# ---------------------------------------------------------------- users


def chosen_user() -> str | None:
    """Whose account the users page shows."""
    return st.session_state.get("chosen_user")


def choose_user(username: str | None) -> None:
    st.session_state["chosen_user"] = username


def keep_one_time_password(username: str, password: str) -> None:
    st.session_state["one_time_password"] = (username, password)


def take_one_time_password() -> tuple[str, str | None]:
    """Whose, and what; it is gone afterwards."""
    return st.session_state.pop("one_time_password", ("", None))
