"""Into a folder: whole files or none, and the reason in words where the disk will not."""

import errno
import os

import pytest

from engine.interop.destinations import Destination, Kind
from engine.interop.sending import NotDelivered, Unreachable, folder
from tests.engine.interop.sending.counterparts import two_documents


@pytest.fixture
def destination(tmp_path):
    (tmp_path / "results").mkdir()
    return Destination("drop", Kind.FOLDER, folder=tmp_path / "results")


def names(destination):
    return sorted(os.listdir(destination.folder))


def test_files_arrive_whole_and_once(destination):
    documents = two_documents()
    for _ in range(2):
        assert folder.send(destination, documents) == "2 files in the folder"
    assert names(destination) == sorted(one.file_name for one in documents)
    for one in documents:
        assert (destination.folder / one.file_name).read_bytes() == one.content


def test_a_full_disk_leaves_nothing_half_written_and_is_tried_again(destination, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    documents = two_documents()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotDelivered, match="the disk is full"):
        folder.send(destination, documents)
    assert names(destination) == []
    monkeypatch.undo()
    folder.send(destination, documents)
    assert len(names(destination)) == 2


def test_a_folder_that_is_not_mounted_is_not_made(tmp_path):
    missing = Destination("drop", Kind.FOLDER, folder=tmp_path / "mnt" / "results")
    with pytest.raises(Unreachable, match="mount the drive"):
        folder.send(missing, two_documents())
    assert not missing.folder.exists()
