"""A worker process with a reader that needs no model: python fake_worker.py NAME SILENT_AFTER_S

The reader takes FAKE_READ_S a call, fails on images of FAKE_FAIL_SIDE pixels and kills its process, once told to
read one of FAKE_KILL_SIDE; on one of FAKE_LOSE_SIDE, as the model FAKE_LOSE_MODEL, and on loading with
FAKE_LOSE_AT_START, its GPU is gone. With FAKE_ON_GPU it is warmed up first. Each call is a line in FAKE_LOG. A model of
the registry takes FAKE_LOAD_S to load, after its folder was checked as the real one's is."""

import logging
import os
import signal
import sys
import time
from pathlib import Path

from engine.errors import ModelUnavailable, ReaderLost
from engine.findings.answers import fracture_answer
from engine.inference import model_folder
from engine.inference.read import Read
from engine.jobs.worker import Worker
from engine.settings import settings
from tests.fake_images import image_processor, sides_of


class FakeReader:
    is_phantom = True
    is_on_gpu = bool(os.environ.get("FAKE_ON_GPU"))
    image_processor = staticmethod(image_processor)

    def __init__(self, model_version="fake 1"):
        self.model_version = model_version

    def warm_up(self, largest):
        with Path(os.environ["FAKE_LOG"]).open("a") as log:
            print("warmed up", file=log)

    def read(self, images, task, contexts):
        return self.read_pixels(image_processor(images)["pixel_values"], task, contexts)

    def read_pixels(self, pixels, task, contexts):
        sides = sides_of(pixels)
        with Path(os.environ["FAKE_LOG"]).open("a") as log:
            print(sys.argv[1], *sides, file=log)
        time.sleep(float(os.environ.get("FAKE_READ_S", "0")))
        if int(os.environ.get("FAKE_KILL_SIDE", "0")) in sides:
            os.kill(os.getpid(), signal.SIGKILL)
        if (
            int(os.environ.get("FAKE_LOSE_SIDE", "0")) in sides
            or os.environ.get("FAKE_LOSE_MODEL") == self.model_version
        ):
            raise ReaderLost("The GPU does not work any more: CUDA error: device lost")
        if int(os.environ.get("FAKE_FAIL_SIDE", "0")) in sides:
            raise RuntimeError("this image cannot be read")
        answer = fracture_answer("normal")
        version = self.model_version
        return [Read(str(task), answer, {"normal": 1.0}, None, None, False, None, version, 1.0) for _ in pixels]


def load_reader(deployed):
    if os.environ.get("FAKE_NO_MODEL"):
        raise ModelUnavailable("the licence has not been accepted")
    if os.environ.get("FAKE_LOSE_AT_START"):
        raise ReaderLost("The GPU does not work any more: CUDA error: unknown error")
    if deployed is None:
        return FakeReader()
    model_folder.verify(deployed.folder, deployed.folder_sha256)
    time.sleep(float(os.environ.get("FAKE_LOAD_S", "0")))
    return FakeReader(deployed.name)


def _fake_retraining():
    if not os.environ.get("FAKE_RETRAIN"):
        return {}
    from tests.fake_retraining import fake_retraining

    return {"retraining": fake_retraining}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    worker = Worker(
        database_url=settings().database_url,
        jobs_url=settings().jobs_url,
        name=sys.argv[1],
        load_reader=load_reader,
        silent_after_s=float(sys.argv[2]),
        **_fake_retraining(),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    worker.run()
