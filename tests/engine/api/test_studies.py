from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from engine.findings.answers import Task, bone_age_answer, rop_answer
from engine.services import images, shadow
from engine.services.accounts import demo_admin, demo_reader, service_actor
from tests.engine.api.conftest import Acting
from tests.model_folders import register
from tests.workstation import PHANTOM, WORKER, AddCase, film_pixels, read_of, write_film


def test_without_a_user_nothing_is_answered(acting: Acting) -> None:
    answer = acting(None).get("/radiology/queue")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_signed_in"


def test_the_queue_has_the_most_urgent_first_and_filters(client: TestClient, add_case: AddCase) -> None:
    add_case(Task.BONE_AGE)
    urgent = add_case(Task.ROP, rop_answer("I", "3", "plus"))
    page = client.get("/radiology/queue").json()
    assert (page["total"], page["rows"][0]["study_id"]) == (2, urgent.study_id)
    assert page["rows"][0]["urgency"] == "urgent"
    only = client.get("/radiology/queue", params={"task": "bone_age", "age_from_months": 100}).json()
    assert [row["read_words"] for row in only["rows"]] == ["9 y 2 m"]
    assert client.get("/radiology/queue", params={"task": "knee"}).status_code == 422


def test_a_study_names_no_child(client: TestClient, add_case: AddCase) -> None:
    case = add_case(PatientName="Doe^Jane", PatientID="SECRET-7")
    answer = client.get(f"/radiology/studies/{case.study_id}")
    assert answer.status_code == 200
    assert not {"Doe", "SECRET", "2016-03-10"} & set(answer.text.replace('"', " ").split())
    assert "birth_date" not in answer.json()
    image = answer.json()["images"][0]
    assert image["read"]["answer"] == bone_age_answer(110)
    assert image["read"]["is_phantom"] is True
    assert sum(image["read"]["probabilities"].values()) == pytest.approx(1)


def test_pixels_come_as_they_were_compressed_and_are_cacheable(
    client: TestClient, add_case: AddCase, session: Session
) -> None:
    case = add_case()
    url = f"/radiology/studies/{case.study_id}/pixels?image={case.image_id}"
    with client.stream("GET", url) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"].startswith("private")
    assert raw == images.pixels_gzip(session, demo_reader(), case.image_id)
    assert np.array_equal(np.frombuffer(gzip.decompress(raw), "<u2"), film_pixels().ravel())

    again = client.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["etag"].strip('"') == images.pixel_sha256(session, demo_reader(), case.image_id)


def test_pixels_of_another_studys_image_are_not_found(client: TestClient, add_case: AddCase) -> None:
    one, other = add_case(), add_case()
    answer = client.get(f"/radiology/studies/{one.study_id}/pixels?image={other.image_id}")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"study {one.study_id} has no image {other.image_id}"


def test_uploads_have_one_outcome_each(client: TestClient, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.dcm").read_bytes()
    answer = client.post(
        "/radiology/studies", files=[("files", ("a.dcm", film)), ("files", ("empty.dcm", b"")), ("files", ("b", film))]
    )
    assert answer.status_code == 201
    outcomes = answer.json()["files"]
    assert [file["outcome"] for file in outcomes] == ["accepted", "quarantined", "duplicate"]
    assert outcomes[1]["reason_code"] == "empty"


def test_an_upload_that_is_refused_as_a_whole_is_422(client: TestClient) -> None:
    answer = client.post("/radiology/studies", files=[("files", ("../../etc/passwd", b"root:x:0"))])
    assert answer.status_code == 422
    assert answer.json()["files"][0]["outcome"] == "quarantined"


def test_a_photo_takes_the_forms_fields(client: TestClient, tmp_path: Path) -> None:
    from PIL import Image

    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "hand.png")
    answer = client.post(
        "/radiology/studies",
        files=[("files", ("hand.png", (tmp_path / "hand.png").read_bytes()))],
        data={"patient_id": "ID1", "sex": "F", "task": "bone_age", "laterality": "L"},
    )
    [file] = answer.json()["files"]
    study = client.get(f"/radiology/studies/{file['study_id']}").json()
    assert (study["sex"], study["task"], study["images"][0]["laterality"]) == ("F", "bone_age", "L")


def test_a_review_is_recorded_once_and_conflicts_are_409(client: TestClient, acting: Acting, add_case: AddCase) -> None:
    case = add_case()
    image = client.get(f"/radiology/studies/{case.study_id}").json()["images"][0]
    url = f"/radiology/studies/{case.study_id}/review"
    body = {
        "verdict": "corrected",
        "answer": bone_age_answer(120),
        "prediction_id": image["read"]["prediction_id"],
        "seen_review_id": image["seen_review_id"],
        "details": {"method": "atlas"},
    }
    assert client.post(url, json=body).status_code == 201
    late = acting(demo_admin()).post(url, json=body | {"answer": bone_age_answer(100)})
    assert late.status_code == 409
    assert late.json()["error"]["code"] == "conflict"
    [review] = client.get(f"/radiology/studies/{case.study_id}").json()["images"][0]["reviews"]
    assert (review["verdict"], review["answer"]) == ("corrected", bone_age_answer(120))
    assert review["details"] == {"method": "atlas"}


def test_refused_reviews_say_what_was_wrong(client: TestClient, acting: Acting, add_case: AddCase) -> None:
    case = add_case()
    url = f"/radiology/studies/{case.study_id}/review"
    outside = client.post(url, json={"verdict": "corrected", "answer": bone_age_answer(400)})
    assert outside.status_code == 422
    unknown = client.post(url, json={"verdict": "maybe"})
    assert unknown.status_code == 422
    assert "body.verdict" in unknown.json()["error"]["message"]
    nowhere = client.post("/radiology/studies/99/review", json={"verdict": "confirmed"})
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "not_found")
    forbidden = acting(service_actor("worker")).post(url, json={"verdict": "confirmed"})
    assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "not_allowed")


def test_models_that_have_read_are_listed(client: TestClient, add_case: AddCase) -> None:
    add_case()
    [model] = client.get("/radiology/models").json()
    assert (model["name"], model["is_phantom"], model["reads"]) == (PHANTOM, True, 1)


def test_nothing_of_a_shadow_model_comes_out(
    client: TestClient, add_case: AddCase, session: Session, data_dir: Path
) -> None:
    case = add_case(Task.BONE_AGE)
    model = register(session, data_dir, "shadow")
    shadow.start(session, demo_admin(), model.model_version_id)
    waiting = shadow.images_to_read(session, WORKER, model.model_version_id, 1)
    shadow.record_reads(
        session, WORKER, model.model_version_id, waiting, [read_of(Task.BONE_AGE, bone_age_answer(217))]
    )
    for path in ("queue", f"studies/{case.study_id}", "models"):
        answer = client.get(f"/radiology/{path}")
        assert answer.status_code == 200
        assert (
            '"bone_age_months":217' not in answer.text and "18 y 1 m" not in answer.text and "shadow" not in answer.text
        )


def test_the_docs_name_every_route_and_need_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
