"""The daemon is found by twistd however it was installed: from a wheel, editable, and from the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class Environment:
    """A virtual environment with everything that consoled needs, and without consoled."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=False, symlinks=True)
        self.python = path / "bin" / "python"
        # The packages of our own environment, but not its .pth files, hence not its consoled.
        site = next((path / "lib").glob("python*/site-packages"))
        (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def pip(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *arguments], check=True, timeout=240)

    def run(self, code: str, *arguments: str | Path, cwd: Path) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.python, "-c", code, *arguments],
            cwd=cwd, env=clean, check=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return done.stdout


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "venv")


@pytest.fixture
def copy(tmp_path):
    """The checkout as git has it, so that the build leaves no traces in ours."""
    copy = tmp_path / "checkout"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "consoled", "twisted", "etc"):
        subprocess.run(["cp", "-r", "--parents", name, _made(copy)], cwd=CHECKOUT, check=True)
    return copy


def _made(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def finds_the_daemon(environment: Environment, cwd: Path, home: Path) -> None:
    """twistd lists it and runs it, and it is the one under `home`."""
    where = environment.run("import consoled.tap; print(consoled.tap.__file__)", cwd=cwd)
    assert Path(where.strip()).is_relative_to(home)
    assert "consoled" in environment.run(TWISTD, "--help", cwd=cwd)
    demo = CHECKOUT / "etc" / "demo.toml"
    assert "nothing wrong" in environment.run(TWISTD, "consoled", "--config", demo, "--check", cwd=cwd)


def test_from_a_wheel(environment, copy, tmp_path):
    build = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path / "wheels", copy], check=True, timeout=240)
    [wheel] = (tmp_path / "wheels").glob("consoled-*.whl")
    environment.pip("install", "--no-deps", "--no-index", wheel)
    finds_the_daemon(environment, tmp_path, tmp_path / "venv")


def test_editable(environment, copy, tmp_path):
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
    environment.pip("install", *options, "--editable", copy)
    finds_the_daemon(environment, tmp_path, copy)


def test_from_the_checkout(environment, copy):
    finds_the_daemon(environment, copy, copy)
