"""The arrows of the layout: db knows nothing of the other folders, and only ui knows Streamlit."""

import ast

from engine.settings import PROJECT_DIR


def imported(folder: str) -> set[str]:
    names = set()
    for file in (PROJECT_DIR / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


def test_db_imports_none_of_the_other_folders() -> None:
    assert not imported("db") & {"engine", "ui", "training", "streamlit"}


def test_only_ui_imports_streamlit() -> None:
    assert "streamlit" not in imported("engine") | imported("training") | imported("db")


def test_engine_imports_neither_ui_nor_training() -> None:
    assert not imported("engine") & {"ui", "training"}
