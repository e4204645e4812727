"""What docs/deploy tells a hospital's IT to run exists, fits together, and is understood by the programs it is for."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.cli import _parser
from engine.settings import PROJECT_DIR

DEPLOY = PROJECT_DIR / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "pediscreen"}
OF_COMPOSE_ALONE = {"PEDISCREEN_NAME", "PEDISCREEN_WEB"}  # the proxy's, not ours
PROGRAM = "/opt/pediscreen/.venv/bin/pediscreen"


def settings_read_by_the_code() -> set[str]:
    code = [
        path.read_text(encoding="utf-8") for folder in ("engine", "ui") for path in (PROJECT_DIR / folder).rglob("*.py")
    ]
    return set(re.findall(r"PEDISCREEN_[A-Z_]+", "\n".join(code)))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_setting_named_exists(path: Path) -> None:
    named = set(re.findall(r"PEDISCREEN_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert named - settings_read_by_the_code() <= OF_COMPOSE_ALONE


def test_every_command_named_exists() -> None:
    commands = [service["command"] for service in OURS.values()]
    for unit in UNITS:
        commands.append(["pediscreen", *shlex.split(section(unit, "Service")["ExecStart"])[1:]])
    assert len(commands) == len(OURS) + len(UNITS)
    for program, *arguments in commands:
        assert program == "pediscreen"
        assert _parser().parse_args(arguments).command is not None


def test_the_services_hang_together() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], (name, needed)
            else:
                assert how["condition"] == "service_completed_successfully" and SERVICES[needed]["restart"] == "no"
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["exchange", "proxy"]
    workers = [service for service in OURS.values() if service["command"] == ["pediscreen", "worker"]]
    webs = [service for service in OURS.values() if service["command"] == ["pediscreen", "serve"]]
    hosts = [service["hostname"] for service in (*workers, *webs)]
    assert (len(workers), len(webs), len(set(hosts))) == (2, 2, 4)
    assert SERVICES["proxy"]["environment"]["PEDISCREEN_WEB"].split() == [f"{web['hostname']}:8501" for web in webs]


def test_our_services_are_confined_and_share_one_database_and_folder() -> None:
    for name, service in OURS.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["volumes"] == ["data:/var/lib/pediscreen"]
        assert service["environment"]["PEDISCREEN_DATABASE_URL"].endswith("@database/pediscreen")
        assert service["environment"]["PEDISCREEN_LOGIN"] != "demo"
    subnet = COMPOSE["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert OURS["web-1"]["environment"]["PEDISCREEN_PROXIES"] == subnet


def test_no_secret_is_written_down_and_every_variable_is_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{([A-Z_]+)", text))
    example = dict(
        line.split("=", 1) for line in (DEPLOY / "example.env").read_text().splitlines() if line and line[0] != "#"
    )
    assert wanted <= set(example) | {"PEDISCREEN_DICOM_PORT"}
    for name, value in example.items():
        assert not value or "PASSWORD" not in name and "KEY" not in name
    for path in TEXTS:
        for value in re.findall(r"(?:PASSWORD|SECRET|_KEY|TOKEN)\s*[=:] *(\S*)", path.read_text()):
            assert value == "" or value.startswith("${") or value.endswith(".pem"), path.name
    for service in SERVICES.values():
        assert service["image"] == "pediscreen" or re.search(r":\w", service["image"])


def test_the_image_is_built_from_files_that_are_there() -> None:
    assert (DEPLOY / COMPOSE["x-pediscreen"]["build"]["context"]).resolve() == PROJECT_DIR
    dockerfile = (PROJECT_DIR / COMPOSE["x-pediscreen"]["build"]["dockerfile"]).read_text()
    for source in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert (PROJECT_DIR / source).exists()
    assert "--require-hashes" in dockerfile and re.search(r"^USER pediscreen$", dockerfile, re.MULTILINE)


def section(unit: Path, name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return dict(parser[name])


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_confined(unit: Path) -> None:
    service = section(unit, "Service")
    assert shlex.split(service["ExecStart"])[0] == PROGRAM
    assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("pediscreen", "yes", "strict")
    assert service["ReadWritePaths"] == "/var/lib/pediscreen"
    environment = (DEPLOY / "systemd" / "environment").read_text()
    assert "PEDISCREEN_DATA_DIR=/var/lib/pediscreen\n" in environment


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})
    ours = [line for line in done.stderr.splitlines() if "pediscreen" in line]
    assert ours == []


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed (apt-get install caddy)")
def test_caddy_understands_its_file() -> None:
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    names = {"PEDISCREEN_NAME": "pediscreen.example", "PEDISCREEN_WEB": "web-1:8501 web-2:8501"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **names})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (apt-get install nginx-light)")
def test_nginx_understands_its_file(tmp_path: Path) -> None:
    key, certificate = tmp_path / "pediscreen.key", tmp_path / "pediscreen.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pediscreen.example"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    part = (DEPLOY / "nginx.conf").read_text().replace("/etc/nginx/pediscreen", str(tmp_path / "pediscreen"))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\nhttp {{\n{part}\n}}\n")
    done = subprocess.run(["nginx", "-t", "-c", str(whole)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
