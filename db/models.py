"""The tables. Predictions, reviews and audit events are only ever added to.

Columns marked `identifying` hold what could name a child: they never leave in an export, a log or an audit row.

    patient ── study ── image ─┬─ prediction ── model_version ── deployment (which one is in use)
                               ├─ shadow_read ──┘      │
                               └─ review ── data_set_review ── data_set ── retrain_run
       └── growth_visit              ├───── user_account
                                     └───── blind_case ── blind_read (read by somebody who must not know the review)
    blind_answer (given before the read was shown) · gold_case (an answer beyond doubt) · quality_rule (how much of it)
    answer_fact (every answer beside what judges it, flattened for the dashboards) · film_statistics (of the pixels)
    quarantine (files that were refused) · audit_event (who did what) · worker (who is alive)

How readers share the work has tables of its own: db.worklist_tables."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.types import UTCDateTime, enum_by_value, utc_now


class Task(StrEnum):
    """The same set as engine.findings.answers.Task (a test keeps them equal)."""

    BONE_AGE = "bone_age"
    ROP = "rop"
    FRACTURE = "fracture"


class Sex(StrEnum):
    """(0010,0040) Patient's Sex, the two values the bone-age references know. Anything else is NULL: unknown."""

    MALE = "M"
    FEMALE = "F"


class Laterality(StrEnum):
    LEFT = "L"
    RIGHT = "R"


class TaskSource(StrEnum):
    """How the case came by its task."""

    TAGS = "tags"
    TRIAGE = "triage"
    READER = "reader"


class StudyStatus(StrEnum):
    """Derived from the study's images: `awaiting_read` while the model is at turn, `awaiting_review` while a
    reader is (also when the read waits for a fact that only a reader can supply)."""

    AWAITING_READ = "awaiting_read"
    AWAITING_REVIEW = "awaiting_review"
    REVIEWED = "reviewed"
    REJECTED = "rejected"


class Urgency(StrEnum):
    """The same set as engine.findings.urgency.Level, mildest first (a test keeps them equal)."""

    NONE = "none"
    SOON = "soon"
    URGENT = "urgent"
    IMMEDIATE = "immediate"


URGENCY_RANK = {urgency: rank for rank, urgency in enumerate(Urgency)}


class ReadState(StrEnum):
    """`blocked`: the model cannot read this image, or not yet; `Image.read_blocked_reason` says why."""

    QUEUED = "queued"
    DONE = "done"
    BLOCKED = "blocked"


class Verdict(StrEnum):
    """`withdrawn` takes back the review it supersedes."""

    CONFIRMED = "confirmed"
    CORRECTED = "corrected"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class RejectReason(StrEnum):
    WRONG_SIDE = "wrong_side"
    POOR_QUALITY = "poor_quality"
    WRONG_CHILD = "wrong_child"
    WRONG_VIEW = "wrong_view"
    NOT_READABLE = "not_readable"
    OTHER = "other"


class BlindKind(StrEnum):
    """`second`: somebody else has decided the case. `gold`: its answer is beyond doubt, and the reader is tested."""

    SECOND = "second"
    GOLD = "gold"


class BlindState(StrEnum):
    """`open`: awaits its reader. `agrees`, `differs`: with the first reader, or with the gold answer; a second read
    that differs awaits an adjudicator until it is `settled`. `void`: the first reader took their decision back, or the
    gold case was retired."""

    OPEN = "open"
    AGREES = "agrees"
    DIFFERS = "differs"
    SETTLED = "settled"
    VOID = "void"


class AnswerKind(StrEnum):
    """Whose answer stands beside which. `model`: a read beside a reader's decision, or beside none yet. `blind`: what
    a reader answered before the read was shown, beside their own decision. `second`: a second reader's beside the first
    one's. `gold`: a reader's beside an answer beyond doubt."""

    MODEL = "model"
    BLIND = "blind"
    SECOND = "second"
    GOLD = "gold"


class Influence(StrEnum):
    """Of a reader who first answered blind and then saw the read."""

    AGREED = "agreed"  # the read said the same
    KEPT = "kept"  # it did not, and the reader stayed with their answer
    TOWARDS = "towards"  # it did not, and the reader came nearer to it
    OTHERWISE = "otherwise"  # the reader changed their answer, and came no nearer to it


class QuarantineState(StrEnum):
    OPEN = "open"
    DISMISSED = "dismissed"


class ModelState(StrEnum):
    """`candidate`: made here and never in use. `shadow`: reads alongside, unseen by readers. `in_use`: its reads are
    shown. `retired`: it was in use, and what it read stays. Exactly one is in use once a worker has loaded a model."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"
    IN_USE = "in_use"
    RETIRED = "retired"


class DeploymentKind(StrEnum):
    PROMOTION = "promotion"
    ROLLBACK = "rollback"


class RetrainState(StrEnum):
    """The first three are unfinished, and only one run can be so at a time. `held`: the gate did not let the candidate
    through, or an admin declined it."""

    QUEUED = "queued"
    RUNNING = "running"
    AWAITING_SIGNATURE = "awaiting_signature"
    PROMOTED = "promoted"
    HELD = "held"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RetrainStep(StrEnum):
    """In this order."""

    SNAPSHOT = "snapshot"
    TRAIN = "train"
    MERGE = "merge"
    EVALUATE = "evaluate"
    GATE = "gate"


class Split(StrEnum):
    """The same set as engine.annotations.SPLITS (a test keeps them equal)."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Position(StrEnum):
    """How a length or height was measured."""

    LYING = "lying"
    STANDING = "standing"


class VisitSource(StrEnum):
    FORM = "form"
    FILE = "file"


class Role(StrEnum):
    READER = "reader"
    ADJUDICATOR = "adjudicator"
    ADMIN = "admin"
    SERVICE = "service"


class Base(DeclarativeBase):
    # SQLite can only alter a constraint that has a name.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UTCDateTime(),
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        **{
            members: enum_by_value(members)
            for members in (
                Task,
                Sex,
                Laterality,
                TaskSource,
                StudyStatus,
                Urgency,
                ReadState,
                Verdict,
                RejectReason,
                BlindKind,
                BlindState,
                AnswerKind,
                Influence,
                QuarantineState,
                Role,
                ModelState,
                DeploymentKind,
                RetrainState,
                RetrainStep,
                Split,
                Position,
                VisitSource,
            )
        },
    }


class Patient(Base):
    __tablename__ = "patient"
    __table_args__ = (UniqueConstraint("patient_id", "issuer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(16), unique=True)  # random; the only name that leaves
    patient_id: Mapped[str] = mapped_column(String(128))  # identifying; (0010,0020)
    issuer: Mapped[str] = mapped_column(String(128), default="")  # identifying; (0010,0021), "" when not given
    sex: Mapped[Sex | None]
    birth_date: Mapped[date | None]  # identifying
    sex_entered_by: Mapped[str | None] = mapped_column(String(64))  # username; NULL when the file said it
    birth_date_entered_by: Mapped[str | None] = mapped_column(String(64))
    gestational_age_weeks: Mapped[float | None]  # at birth; 30 weeks and 4 days are 30.571; comes with growth visits
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    studies: Mapped[list[Study]] = relationship(back_populates="patient", lazy="raise")


class Study(Base):
    __tablename__ = "study"
    __table_args__ = (
        # the worklist's three orders: by what is left to do, by urgency, by date
        Index("ix_study_status_urgency_rank_act_by", "status", "urgency_rank", "act_by", "acquired_on"),
        Index("ix_study_urgency_rank_act_by", "urgency_rank", "act_by", "acquired_on"),
        # how many of each group are decided (engine.services.case_order)
        Index("ix_study_status_learn_group", "status", "learn_group"),
        Index("ix_study_acquired_on", "acquired_on"),
        Index("ix_study_received_at", "received_at"),
        # what can be chosen on the dashboards, and whether they have to say "phantoms among them"
        Index("ix_study_site", "site"),
        Index("ix_study_is_phantom", "is_phantom"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_fk: Mapped[int] = mapped_column(ForeignKey("patient.id"), index=True)
    accession_number: Mapped[str | None] = mapped_column(String(64))  # identifying; (0008,0050)
    acquired_on: Mapped[date | None]
    received_at: Mapped[datetime] = mapped_column(default=utc_now)
    site: Mapped[str | None] = mapped_column(String(128))
    task: Mapped[Task | None]
    task_source: Mapped[TaskSource | None]
    status: Mapped[StudyStatus] = mapped_column(default=StudyStatus.AWAITING_READ)
    urgency: Mapped[Urgency] = mapped_column(default=Urgency.NONE)
    urgency_rank: Mapped[int] = mapped_column(
        Computed(
            "CASE urgency WHEN 'immediate' THEN 3 WHEN 'urgent' THEN 2 WHEN 'soon' THEN 1 ELSE 0 END", persisted=True
        )
    )
    urgency_reason: Mapped[str | None] = mapped_column(Text)
    urgency_unverified: Mapped[bool] = mapped_column(default=False)  # the rule behind it awaits a clinician's check
    act_by: Mapped[date | None]  # the day on which the rule's time runs out; NULL: no such time, or no examination date
    learn_value: Mapped[float | None]  # what a model could learn from the case itself, 0 to 1; NULL before its read
    learn_group: Mapped[str | None] = mapped_column(String(200))  # task, sex, age band, site (case_order.group_of)
    age_months: Mapped[float | None]  # at acquisition, calendar months with decimals; NULL when unknown
    warnings: Mapped[list[str]] = mapped_column(default=list)
    is_phantom: Mapped[bool] = mapped_column(default=False)

    patient: Mapped[Patient] = relationship(back_populates="studies", lazy="raise")
    images: Mapped[list[Image]] = relationship(back_populates="study", lazy="raise", order_by="Image.id")


class Image(Base):
    __tablename__ = "image"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64), unique=True)  # NULL for PNG and JPEG
    series_instance_uid: Mapped[str | None] = mapped_column(String(64))
    file_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    pixel_sha256: Mapped[str] = mapped_column(String(64), index=True)
    film_sha256: Mapped[str | None] = mapped_column(String(64))  # engine.imaging.film_store
    source_format: Mapped[str] = mapped_column(String(8))  # dicom, png, jpeg
    modality: Mapped[str | None] = mapped_column(String(16))
    body_part: Mapped[str | None] = mapped_column(String(64))
    view_position: Mapped[str | None] = mapped_column(String(64))
    laterality: Mapped[Laterality | None]
    laterality_entered_by: Mapped[str | None] = mapped_column(String(64))
    rows: Mapped[int]
    cols: Mapped[int]
    burned_in_annotation: Mapped[str | None] = mapped_column(String(16))  # (0028,0301); NULL when the file is silent
    read_state: Mapped[ReadState] = mapped_column(default=ReadState.QUEUED, index=True)
    read_blocked_reason: Mapped[str | None] = mapped_column(Text)
    # counts what a reader added since; a read of an earlier round was made without it
    read_round: Mapped[int] = mapped_column(default=1)
    read_first: Mapped[bool] = mapped_column(default=False)  # a person waits for it: read before what arrives in bulk
    read_worker: Mapped[str | None] = mapped_column(String(64))  # has it in hand; counts while that worker is heard of
    read_starts: Mapped[int] = mapped_column(default=0)  # how often a worker took it in hand in this round

    study: Mapped[Study] = relationship(back_populates="images", lazy="raise")


class GrowthVisit(Base):
    """What was measured of a child on one day. A wrong visit is withdrawn and entered anew; what was measured never
    changes. Age and z follow from it and from what is known of the child (engine.services.growth_scores keeps them)."""

    __tablename__ = "growth_visit"
    __table_args__ = (
        # one visit a day, also when the same file is imported twice at once
        Index(
            "uq_growth_visit_patient_fk_measured_on",
            "patient_fk",
            "measured_on",
            unique=True,
            sqlite_where=text("withdrawn_at IS NULL"),
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
        # what the figures over all children read, and nothing else
        Index(
            "ix_growth_visit_figures",
            "is_phantom",
            "withdrawn_at",
            "patient_fk",
            "measured_on",
            "age_months",
            "site",
            "height_for_age_z",
            "weight_for_age_z",
            "bmi_for_age_z",
            "head_circumference_for_age_z",
        ),
        CheckConstraint(
            "length_height_cm IS NOT NULL OR weight_kg IS NOT NULL OR head_circumference_cm IS NOT NULL",
            name="something_measured",
        ),
        CheckConstraint("(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name="withdrawn_by_somebody"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_fk: Mapped[int] = mapped_column(ForeignKey("patient.id"), index=True)
    measured_on: Mapped[date]
    length_height_cm: Mapped[float | None]
    position: Mapped[Position | None]
    weight_kg: Mapped[float | None]
    head_circumference_cm: Mapped[float | None]
    oedema: Mapped[bool] = mapped_column(default=False)
    site: Mapped[str | None] = mapped_column(String(128))
    # what the sender's own software made of it, to compare with ours
    supplied_height_for_age_z: Mapped[float | None]
    supplied_weight_for_age_z: Mapped[float | None]
    supplied_bmi_for_age_z: Mapped[float | None]
    supplied_head_circumference_for_age_z: Mapped[float | None]

    age_months: Mapped[float | None]  # chronological, calendar months with decimals
    height_for_age_z: Mapped[float | None]
    weight_for_age_z: Mapped[float | None]
    bmi_for_age_z: Mapped[float | None]
    head_circumference_for_age_z: Mapped[float | None]

    doubts: Mapped[list[str]] = mapped_column(default=list)  # codes of what somebody was shown before it was stored
    source: Mapped[VisitSource]
    source_sha256: Mapped[str | None] = mapped_column(String(64))  # of the file it came in
    source_line: Mapped[int | None]
    is_phantom: Mapped[bool] = mapped_column(default=False)
    entered_by: Mapped[str] = mapped_column(String(64))  # username
    entered_at: Mapped[datetime] = mapped_column(default=utc_now)
    withdrawn_by: Mapped[str | None] = mapped_column(String(64))
    withdrawn_at: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None] = mapped_column(Text)


class DataSet(Base):
    """What a retraining saw: a snapshot of the reviews, named by the hash of what was written."""

    __tablename__ = "data_set"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    counts: Mapped[dict[str, Any]]  # task -> split -> images, and what else the snapshot counted
    left_out: Mapped[dict[str, Any]]  # reason -> images


class DataSetReview(Base):
    """One decision that went into a data set. The decision is the one that stood then, whatever came after."""

    __tablename__ = "data_set_review"

    data_set_fk: Mapped[int] = mapped_column(ForeignKey("data_set.id"), primary_key=True)
    review_fk: Mapped[int] = mapped_column(ForeignKey("review.id"), primary_key=True, index=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), index=True)
    split: Mapped[Split]


class ModelVersion(Base):
    """A model that has read here, or was made here. `folder` NULL: the one that PEDISCREEN_MODEL names; it has no
    lineage but its name. `name` is what its reads carry (Reader.model_version)."""

    __tablename__ = "model_version"
    __table_args__ = (CheckConstraint("(folder IS NULL) = (folder_sha256 IS NULL)", name="folder_has_a_hash"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    is_phantom: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    state: Mapped[ModelState] = mapped_column(default=ModelState.RETIRED)
    folder: Mapped[str | None] = mapped_column(String(255), unique=True, index=True)  # below the data folder
    folder_sha256: Mapped[str | None] = mapped_column(String(64))  # engine.inference.model_folder.sha256_of
    base_model: Mapped[str | None] = mapped_column(String(200))  # the name that its weights came from
    adapter_sha256: Mapped[str | None] = mapped_column(String(64))
    data_set_fk: Mapped[int | None] = mapped_column(ForeignKey("data_set.id"))
    code_version: Mapped[str | None] = mapped_column(String(64))
    settings: Mapped[dict[str, Any] | None]  # what the training was asked for
    metrics: Mapped[dict[str, Any] | None]  # what the evaluation found
    shadow_since: Mapped[datetime | None]  # while `shadow`
    shadow_from_prediction: Mapped[int | None]  # the first prediction that the shadow reads again

    data_set: Mapped[DataSet | None] = relationship(lazy="raise")


class Deployment(Base):
    """Which model is in use: the row with the highest id; none means the one that PEDISCREEN_MODEL names. Only ever
    added to. The id is counted by hand, so that exactly one of two simultaneous admins wins."""

    __tablename__ = "deployment"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_version_fk: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"), index=True)  # NULL: as above
    kind: Mapped[DeploymentKind]
    deployed_by: Mapped[str] = mapped_column(String(64))  # username
    deployed_at: Mapped[datetime] = mapped_column(default=utc_now)
    change_record: Mapped[str | None] = mapped_column(String(255))  # a markdown file below the data folder
    comment: Mapped[str | None] = mapped_column(Text)
    # what a rollback from here returns to; NULL: the model that PEDISCREEN_MODEL names
    previous_id: Mapped[int | None] = mapped_column(ForeignKey("deployment.id"))

    model_version: Mapped[ModelVersion | None] = relationship(lazy="raise")


class RetrainRun(Base):
    """One press of the button. `unfinished` is 1 for the run that is not over, and unique: two clicks, two admins and
    two tabs start one."""

    __tablename__ = "retrain_run"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[RetrainState] = mapped_column(default=RetrainState.QUEUED)
    unfinished: Mapped[int | None] = mapped_column(
        Computed("CASE WHEN state IN ('queued', 'running', 'awaiting_signature') THEN 1 END", persisted=True),
        unique=True,
    )
    step: Mapped[RetrainStep | None]  # NULL until it starts; the one it ended in afterwards
    started_by: Mapped[str] = mapped_column(String(64))  # username
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]
    progress: Mapped[float] = mapped_column(default=0.0)  # of the step, 0 to 1
    message: Mapped[str | None] = mapped_column(Text)  # a sentence for the admin
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    data_set_fk: Mapped[int | None] = mapped_column(ForeignKey("data_set.id"))
    candidate_fk: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"), unique=True)
    decision: Mapped[dict[str, Any] | None]  # what the gate decided, and on which figures
    cancel_requested_by: Mapped[str | None] = mapped_column(String(64))


class ReadColumns:
    """What a read says (engine.inference.read.Read), of the model in use or of a shadow."""

    read_round: Mapped[int]
    task: Mapped[Task]
    answer: Mapped[dict[str, Any] | None]
    probabilities: Mapped[dict[str, Any]]
    median_months: Mapped[int | None]
    interval_low_months: Mapped[int | None]
    interval_high_months: Mapped[int | None]
    abstained: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(Text)
    milliseconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Prediction(ReadColumns, Base):
    """One read. The latest one (highest id) of an image is the one shown."""

    __tablename__ = "prediction"
    __table_args__ = (UniqueConstraint("image_fk", "model_version_fk", "read_round"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"))
    model_version_fk: Mapped[int] = mapped_column(ForeignKey("model_version.id"))

    model_version: Mapped[ModelVersion] = relationship(lazy="raise")


class ShadowRead(ReadColumns, Base):
    """What a shadow model says of an image. A table of its own, so that no query for readers can meet it."""

    __tablename__ = "shadow_read"
    __table_args__ = (UniqueConstraint("image_fk", "model_version_fk", "read_round"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"))
    model_version_fk: Mapped[int] = mapped_column(ForeignKey("model_version.id"), index=True)
    prediction_fk: Mapped[int] = mapped_column(ForeignKey("prediction.id"))  # the read it stands beside


class UserAccount(Base):
    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(128))
    role: Mapped[Role]
    pseudonym: Mapped[str] = mapped_column(String(16), unique=True)  # what an export calls this reader
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class BlindAnswer(Base):
    """What a reader answered before the read was shown to them (blind-first). One a reader and image: nobody can
    unsee."""

    __tablename__ = "blind_answer"
    __table_args__ = (UniqueConstraint("image_fk", "reader_fk"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"))
    reader_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    answer: Mapped[dict[str, Any]]
    comment: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what was added to the answer, marks on the film
    seconds: Mapped[float | None]  # from image shown to this answer
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class DecisionColumns:
    """What a reader decided about one image. With a `blind_answer_fk` they had answered before they saw the read."""

    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"))
    revision: Mapped[int]
    prediction_fk: Mapped[int | None] = mapped_column(ForeignKey("prediction.id"), index=True)
    reader_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    verdict: Mapped[Verdict]
    answer: Mapped[dict[str, Any] | None]  # NULL when rejected or withdrawn
    reject_reason: Mapped[RejectReason | None]
    comment: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what the form of the task adds
    seconds: Mapped[float | None]  # from image shown to decision, what a blind-first answer took included
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    blind_answer_fk: Mapped[int | None] = mapped_column(ForeignKey("blind_answer.id"), index=True)


class Review(DecisionColumns, Base):
    """One decision about one image. `revision` counts 1, 2, ... per image and each supersedes the one before;
    its uniqueness is what lets exactly one of two simultaneous readers win."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("image_fk", "revision"),
        CheckConstraint("(revision = 1) = (supersedes_id IS NULL)", name="first_supersedes_nothing"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("review.id"), unique=True)

    reader: Mapped[UserAccount] = relationship(lazy="raise")
    blind_answer: Mapped[BlindAnswer | None] = relationship(lazy="raise")


class GoldCase(Base):
    """An image whose answer is beyond doubt, mixed unseen into the readers' work to test them."""

    __tablename__ = "gold_case"

    id: Mapped[int] = mapped_column(primary_key=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), unique=True)
    answer: Mapped[dict[str, Any]]
    source: Mapped[str] = mapped_column(Text)  # why it is beyond doubt
    made_by: Mapped[str] = mapped_column(String(64))  # username
    made_at: Mapped[datetime] = mapped_column(default=utc_now)
    retired_at: Mapped[datetime | None]


class BlindCase(Base):
    """An image that somebody reads as if nobody had. To them it looks like any other on the worklist; what they decide
    goes to `blind_read`, a table of its own, so that it never touches the case. Of a second read, `reader_fk` is NULL
    until any other reader has read it; a gold case is dealt to one."""

    __tablename__ = "blind_case"
    __table_args__ = (Index("ix_blind_case_state_kind", "state", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[BlindKind]
    state: Mapped[BlindState] = mapped_column(default=BlindState.OPEN)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), index=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    reader_fk: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"), index=True)
    verdict: Mapped[Verdict | None]  # of the blind read that stands
    first_review_fk: Mapped[int | None] = mapped_column(ForeignKey("review.id"), index=True)  # of a second read
    first_reader_fk: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    adjudication_fk: Mapped[int | None] = mapped_column(ForeignKey("review.id"), index=True)  # what settled it
    gold_fk: Mapped[int | None] = mapped_column(ForeignKey("gold_case.id"), index=True)
    # of the study by its reads alone: what it sorts by for its reader, or its place would tell what was decided
    urgency_rank: Mapped[int] = mapped_column(default=0, server_default="0")
    act_by: Mapped[date | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class BlindRead(DecisionColumns, Base):
    """One decision of a blind reader; `revision` counts within the blind case, and the latest one stands."""

    __tablename__ = "blind_read"
    __table_args__ = (UniqueConstraint("blind_case_fk", "revision"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    blind_case_fk: Mapped[int] = mapped_column(ForeignKey("blind_case.id"))

    reader: Mapped[UserAccount] = relationship(lazy="raise")
    blind_answer: Mapped[BlindAnswer | None] = relationship(lazy="raise")
    blind_case: Mapped[BlindCase] = relationship(lazy="raise")


class QualityRule(Base):
    """How a task's reads are checked; no row: not at all."""

    __tablename__ = "quality_rule"

    task: Mapped[Task] = mapped_column(primary_key=True)
    blind_first: Mapped[bool] = mapped_column(default=False)
    second_read_share: Mapped[float] = mapped_column(default=0.0)  # of the studies, 0 to 1
    gold_every: Mapped[int] = mapped_column(default=0)  # one gold case in so many decisions of a reader; 0: none
    changed_by: Mapped[str] = mapped_column(String(64))  # username
    changed_at: Mapped[datetime] = mapped_column(default=utc_now)


class AnswerFact(Base):
    """One answer beside the one that judges it, with all that a dashboard groups or filters by. Derived: kept up in the
    transaction of what it follows from (engine.services.answer_facts), and can be made anew at any time.

    The key is also the order on the disk (SQLite): what a figure counts lies together, child by child, because the
    images of one child are not independent. Probabilities are whole numbers of 1/10,000."""

    __tablename__ = "answer_fact"
    __table_args__ = (Index("ix_answer_fact_image_fk", "image_fk"), {"sqlite_with_rowid": False})

    task: Mapped[Task] = mapped_column(primary_key=True)
    kind: Mapped[AnswerKind] = mapped_column(primary_key=True)
    patient_fk: Mapped[int] = mapped_column(ForeignKey("patient.id"), primary_key=True)
    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), primary_key=True)
    # of `model` and `blind` who decided, of `second` and `gold` who answered; 0: nobody yet
    reader_fk: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_version_fk: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 0: no read
    first_reader_fk: Mapped[int | None]  # of `second`
    is_in_force: Mapped[bool]  # the decision is the image's
    is_shown: Mapped[bool]  # the read is the one that the reader saw, or will see
    is_answered: Mapped[bool]  # False: the model abstained, or there is no read

    site: Mapped[str | None] = mapped_column(String(128))
    sex: Mapped[Sex | None]
    age_months: Mapped[float | None]
    is_phantom: Mapped[bool]
    read_hour: Mapped[int | None]  # hours since 1970, UTC; when the read was made
    decided_hour: Mapped[int | None]
    decided_month: Mapped[int | None]  # months since the year 0, UTC
    turnaround_minutes: Mapped[int | None]  # from received to the image's first decision
    verdict: Mapped[Verdict | None]
    reject_reason: Mapped[RejectReason | None]
    seconds_tenths: Mapped[int | None]
    influence: Mapped[Influence | None]  # of `blind`

    label_months: Mapped[int | None]
    read_months: Mapped[int | None]
    interval_low_months: Mapped[int | None]
    interval_high_months: Mapped[int | None]
    below_label: Mapped[int | None]  # the probability that the read gives to bone ages below the label
    through_label: Mapped[int | None]  # and with that of the label itself

    label_zone: Mapped[str | None] = mapped_column(String(16))
    read_zone: Mapped[str | None] = mapped_column(String(16))
    sure_zone: Mapped[int | None]  # the probability of the answer given
    zone_i: Mapped[int | None]
    zone_ii: Mapped[int | None]
    zone_iii: Mapped[int | None]
    zone_none: Mapped[int | None]
    label_stage: Mapped[str | None] = mapped_column(String(16))
    read_stage: Mapped[str | None] = mapped_column(String(16))
    sure_stage: Mapped[int | None]
    stage_0: Mapped[int | None]
    stage_1: Mapped[int | None]
    stage_2: Mapped[int | None]
    stage_3: Mapped[int | None]
    stage_4: Mapped[int | None]
    stage_5: Mapped[int | None]
    label_plus_disease: Mapped[str | None] = mapped_column(String(16))
    read_plus_disease: Mapped[str | None] = mapped_column(String(16))
    sure_plus_disease: Mapped[int | None]
    plus_disease_none: Mapped[int | None]
    plus_disease_preplus: Mapped[int | None]
    plus_disease_plus: Mapped[int | None]
    label_fracture: Mapped[str | None] = mapped_column(String(16))
    read_fracture: Mapped[str | None] = mapped_column(String(16))
    sure_fracture: Mapped[int | None]
    fracture_distal_radius: Mapped[int | None]
    fracture_buckle: Mapped[int | None]
    fracture_normal: Mapped[int | None]


class FilmStatistics(Base):
    """What the pixels of a film are like (engine.imaging.statistics), to notice when films begin to look different."""

    __tablename__ = "film_statistics"
    __table_args__ = (Index("ix_film_statistics_received_hour", "received_hour"),)

    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), primary_key=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"))
    received_hour: Mapped[int]  # hours since 1970, UTC
    mean: Mapped[float]
    spread: Mapped[float]
    dark_share: Mapped[float]
    sharpness: Mapped[float]


class Quarantine(Base):
    """A refused file. The original lies under `data/quarantine/<file_sha256>`."""

    __tablename__ = "quarantine"
    __table_args__ = (
        UniqueConstraint("file_sha256", "code", "file_name"),
        Index("ix_quarantine_state_received_at", "state", "received_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    file_name: Mapped[str] = mapped_column(String(255))  # identifying: names of children end up in file names
    file_sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    is_alert: Mapped[bool] = mapped_column(default=False)  # may mean that data were tampered with or mixed up
    times_received: Mapped[int] = mapped_column(default=1)
    received_at: Mapped[datetime] = mapped_column(default=utc_now)  # the last time
    received_from: Mapped[str] = mapped_column(String(64))  # username
    state: Mapped[QuarantineState] = mapped_column(default=QuarantineState.OPEN)
    dismissed_by: Mapped[str | None] = mapped_column(String(64))
    dismissed_at: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(Text)


class AuditEvent(Base):
    """Who did what, when, from where, and the hash that ties it to the row before (db.audit_chain, which alone adds
    rows). Triggers refuse every change; SQLite's batch mode would drop them with the table it rebuilds."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_subject", "subject"),
        Index("ix_audit_event_at", "at"),
        Index("ix_audit_event_actor", "actor"),
        Index("ix_audit_event_action", "action"),
        Index("uq_audit_event_previous_hash", "previous_hash", unique=True),  # a chain does not fork
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    actor: Mapped[str] = mapped_column(String(64))  # username
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))  # "study:12", never a name
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    origin: Mapped[str] = mapped_column(String(128), default="")  # where from: an address, a program; "" in old rows
    seal: Mapped[str] = mapped_column(String(16))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class Worker(Base):
    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)  # last heartbeat
    model_version: Mapped[str | None] = mapped_column(String(200))
    detail: Mapped[str | None] = mapped_column(Text)
