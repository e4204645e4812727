"""A film or an original that somebody changed on the disk is not shown: it is named, on the screen and in the log."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from engine.errors import Damaged
from engine.imaging import film_store
from engine.services import audit_check, images, review, stored_files
from tests.engine.services.conftest import ADMIN, READER
from tests.ui.reading_pages import everything_said

APP = Path(__file__).parents[3] / "ui" / "app.py"


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def what_the_page_says(study_id: int) -> str:
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    at.query_params["study"] = str(study_id)
    at = at.switch_page("pages/review.py").run()
    assert not at.exception
    return everything_said(at) + " ".join(error.value for error in at.error)


@pytest.mark.parametrize("name", [film_store.HEADER, film_store.PIXELS])
def test_a_changed_film_is_named(
    session: Session, new_case: Callable, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = new_case()
    change(film_store.entry_folder(images.films_folder(), case.file_sha256) / name)
    said = f"The files of image {case.image_id} were changed or damaged: {name}"
    for opened in (images.film, images.pixels_gzip):
        with pytest.raises(Damaged, match=said):
            opened(session, READER, case.image_id)
    assert said in caplog.text
    checked, troubles = stored_files.check(session, ADMIN)
    assert (checked, len(troubles)) == (1, 1) and said in troubles[0]
    if name == film_store.HEADER:  # the page draws from it; the pixels are fetched by the viewer
        assert f"image {case.image_id} were changed or damaged" in what_the_page_says(case.study_id)


def test_a_changed_original_is_named_and_not_decoded_again(
    session: Session, new_case: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    case = new_case()
    change(images.original_path(case.file_sha256))
    said = f"The files of image {case.image_id} were changed or damaged: the original is not what was sent"
    for path in film_store.entry_folder(images.films_folder(), case.file_sha256).iterdir():
        path.unlink()
    film_store.entry_folder(images.films_folder(), case.file_sha256).rmdir()
    with pytest.raises(Damaged, match=said):
        review.load_study(session, READER, case.study_id)
    assert said in caplog.text
    assert f"image {case.image_id} were changed or damaged" in what_the_page_says(case.study_id)


def test_a_lost_film_is_decoded_again_and_that_is_recorded(
    session: Session, new_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engine.services.conftest import grey_film, hand_tags

    case = new_case()
    folder = film_store.entry_folder(images.films_folder(), case.file_sha256)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr(images, "load_film", lambda path: grey_film(hand_tags(5), seed=5))  # as a newer decoder might
    assert images.film(session, READER, case.image_id).pixels.size
    session.rollback()
    audit_check.fix_earlier_rows(str(session.get_bind().url.render_as_string(hide_password=False)))
    assert audit_check.verify(session, ADMIN).problems == ()
