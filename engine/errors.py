"""Every error PediScreen raises on purpose.

PediScreenError
├── Refused              an input we will not work with; carries a `code` for the quarantine and the API
│   ├── FileRefused          cannot be turned into pixels (empty, truncated, wrong type, hostile, too large)
│   ├── AdmissionRefused     pixels are fine, but the study may not enter (SOP class, identifiers, dates)
│   ├── AnswerRefused        a label outside the closed answer set, or fields that contradict each other
│   └── DocumentRefused      a document that cannot leave as asked: not signed, no DICOM source, code not verified
├── NotAllowed           the acting user's role does not permit this
├── NotFound             no such study, image, model ...
├── Damaged              what is stored is not what was stored: changed or damaged on the disk
├── Conflict             someone else changed or reviewed this first
├── ModelUnavailable     the model cannot be loaded; the message says exactly what is missing
├── ReadFailed           the model is loaded but gives no read of this image; the case says why
└── ReaderUnavailable    it reads nothing at present, whatever the image: images stay queued
    └── ReaderLost           nor will it in this process, which has to end (the GPU is gone)

A message says what was wrong, the value seen and what to do; for DICOM it names the tag, as in
"(0028,1051) Window Width must be at least 1, found 0".
"""


class PediScreenError(Exception):
    """Base of every error raised on purpose; `str(error)` is fit to be shown to a user."""


class Refused(PediScreenError):
    """An input that is not accepted. `code` is stable, short and machine readable, e.g. "truncated"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FileRefused(Refused):
    """A file that cannot be turned into pixels."""


class AdmissionRefused(Refused):
    """A readable image that may not enter the worklist."""


class AnswerRefused(Refused):
    """A label outside its closed set, or one whose fields contradict each other."""


class DocumentRefused(Refused):
    """A document that cannot leave as asked; `code` "undecided", "no_dicom_source", "unverified_codes" ..."""


class NotAllowed(PediScreenError):
    """The acting user's role does not permit the action."""


class NotFound(PediScreenError):
    """The thing asked for does not exist."""


class Damaged(PediScreenError):
    """A stored file is not the one that was stored; the message names it and says how it is put right."""


class Conflict(PediScreenError):
    """Somebody else changed it first; reload and decide again."""


class ModelUnavailable(PediScreenError):
    """The model cannot be loaded; the message says what is missing and how to get it."""


class ReadFailed(PediScreenError):
    """The loaded model gives no read of this image, though it reads others."""


class ReaderUnavailable(PediScreenError):
    """The model reads nothing now, which is no image's fault: its numbers are none, the GPU's memory is taken."""


class ReaderLost(ReaderUnavailable):
    """What the model ran on is gone, and with it this process's use of it; a new process may find it again."""
