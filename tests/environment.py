"""A virtual environment into which tests install consoled, as a user would, and without the network."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


class Environment:
    """A virtual environment with everything that consoled needs, and without consoled."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=False, symlinks=True)
        self.bin = path / "bin"
        self.python = self.bin / "python"
        # The packages of our own environment, but not its .pth files, hence not its consoled.
        site = next((path / "lib").glob("python*/site-packages"))
        (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def pip(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *arguments], check=True, timeout=240)

    def install(self, wheel: Path) -> None:
        """The wheel alone."""
        self.pip("install", "--no-deps", "--no-index", wheel)


def copy_of_the_checkout(to: Path) -> Path:
    """What a build wants of it, so that the build leaves no traces in ours."""
    to.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "consoled", "twisted", "etc"):
        subprocess.run(["cp", "-r", "--parents", name, to], cwd=CHECKOUT, check=True)
    return to


def build_wheel(copy: Path, into: Path) -> Path:
    """The wheel that is made of a copy of the checkout."""
    build = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", into, copy], check=True, timeout=240)
    [wheel] = into.glob("consoled-*.whl")
    return wheel
