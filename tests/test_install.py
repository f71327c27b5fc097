"""The daemon is found by twistd however it was installed: from a wheel, editable, and from the checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.environment import CHECKOUT, Environment, build_wheel, copy_of_the_checkout

TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "venv")


@pytest.fixture
def copy(tmp_path):
    return copy_of_the_checkout(tmp_path / "checkout")


def run(environment: Environment, code: str, *arguments: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [environment.python, "-c", code, *arguments],
        cwd=cwd, env=clean, check=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.stdout


def finds_the_daemon(environment: Environment, cwd: Path, home: Path) -> None:
    """twistd lists it and runs it, and it is the one under `home`."""
    where = run(environment, "import consoled.tap; print(consoled.tap.__file__)", cwd=cwd)
    assert Path(where.strip()).is_relative_to(home)
    assert "consoled" in run(environment, TWISTD, "--help", cwd=cwd)
    demo = CHECKOUT / "etc" / "demo.toml"
    assert "nothing wrong" in run(environment, TWISTD, "consoled", "--config", demo, "--check", cwd=cwd)


def test_from_a_wheel(environment, copy, tmp_path):
    environment.install(build_wheel(copy, tmp_path / "wheels"))
    finds_the_daemon(environment, tmp_path, tmp_path / "venv")


def test_editable(environment, copy, tmp_path):
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
    environment.pip("install", *options, "--editable", copy)
    finds_the_daemon(environment, tmp_path, copy)


def test_from_the_checkout(environment, copy):
    finds_the_daemon(environment, copy, copy)
