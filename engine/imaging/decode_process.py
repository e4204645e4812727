"""The process that decodes: python -m engine.imaging.decode_process MEMORY_LIMIT_MB

Foreign files meet C codecs here and nowhere else. The process is started by engine.imaging.load, caps its own address
space, imports neither torch nor Streamlit and serves one file after another:

    in    one JSON line    {"path": ..., "format": "dicom", "time_limit_s": 20}
    out   "ready" once; then for each file one JSON line
          {"film": header, "bytes": n} and then n bytes of pixels, or {"refused": code, "message": ..., "stop": bool}

A file that makes it crash, hang or eat memory costs this process only; load starts another."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO


def main(memory_limit_mb: int) -> None:
    limit_this_process(memory_limit_mb)
    # Only our answers may reach the parent's pipe: whatever a library prints goes nowhere.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    from engine.imaging import dicom, photo  # after the cap

    decoders = {
        "dicom": dicom.read_dicom,
        "dicom, stored values": dicom.read_stored_values,
        "png": photo.read_photo,
        "jpeg": photo.read_photo,
    }
    answers.write(b"ready\n")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # If the parent is gone, nobody else stops a hanging codec.
        signal.setitimer(signal.ITIMER_REAL, request["time_limit_s"] + 5)
        stop = answer(decoders[request["format"]], Path(request["path"]), answers)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if stop:
            break


def answer(decode: Any, path: Path, answers: BinaryIO) -> bool:
    """Decode one file and write the answer. True when this process should not serve another file."""
    from engine.errors import FileRefused
    from engine.imaging.film_store import film_header, pixel_bytes

    stop = False
    try:
        film = decode(path)
        header = film_header(film)
        data = pixel_bytes(film)
        write_all(answers, json.dumps({"film": header, "bytes": len(data)}).encode() + b"\n")
        write_all(answers, data)
        return False
    except FileRefused as refusal:
        code, message = refusal.code, str(refusal)
    except MemoryError:
        code, message, stop = "too_much_memory", "", True
    except OSError as error:
        code, message = "not_a_file", f"The file cannot be read: {error.strerror or type(error).__name__}."
    except Exception as error:  # the outermost line of a decode: a hostile file can make a library raise anything
        # The text of a library's error may quote the patient's data; its type does not.
        code, message = (
            "malformed",
            f"The file is damaged or breaks the standard (decoder said {type(error).__name__}).",
        )
    write_all(answers, json.dumps({"refused": code, "message": message, "stop": stop}).encode() + b"\n")
    return stop


def write_all(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def limit_this_process(memory_limit_mb: int) -> None:
    """Cap the address space, write no core or other file, and be the first to go when the machine runs out."""
    limit = memory_limit_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main(int(sys.argv[1]))
