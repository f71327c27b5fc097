"""The Debian package: made from this checkout, looked into, and installed where the machine allows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import lack, need

HOME = Path(__file__).parent.parent.parent
LIMIT = 120
"""Seconds for each of the three, on a loaded machine."""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    need("dpkg-deb", "dpkg")
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True).returncode:
        lack("Debian's Python with venv", "python3-venv")
    out = tmp_path_factory.mktemp("deb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Squeezing it takes longer than all the rest.
    build = [HOME / "debian" / "build", out]
    done = subprocess.run(
        build, env=environment | {"COMPRESSION": "none"}, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    [package] = out.glob("consoled_*.deb")
    return package


@pytest.fixture(scope="module")
def root(package, tmp_path_factory):
    root = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", package, root / "all"], check=True, timeout=LIMIT)
    return root / "all"


def test_what_is_in_it(root):
    control = (root / "DEBIAN" / "control").read_text()
    assert re.search(r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)", control, re.MULTILINE)
    conffiles = (root / "DEBIAN" / "conffiles").read_text().split()
    assert conffiles == ["/etc/consoled/consoled.toml", "/etc/consoled/tokens.toml", "/etc/logrotate.d/consoled"]
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", root / "DEBIAN" / script], check=True, timeout=30)
    for name in ("man8/consoled.8.gz", "man5/consoled.toml.5.gz", "man1/consoled-import.1.gz"):
        assert (root / "usr" / "share" / "man" / name).exists()
    assert (root / "usr" / "bin" / "consoled-import").readlink() == Path("/opt/consoled/bin/consoled-import")


def test_it_names_neither_the_place_where_it_was_made_nor_where_its_parts_are_from(root):
    for place in (b"/tmp/tmp.", bytes(HOME / "consoled")):
        found = subprocess.run(["grep", "-rlF", place, root / "opt", root / "etc"], capture_output=True, timeout=LIMIT)
        assert found.stdout == b"", place
    assert list(root.rglob("pip.conf")) == [] and list(root.rglob("direct_url.json")) == []


def test_what_it_brings_along_works_where_it_lies(root, tmp_path):
    """The packaged daemon, with Debian's Python and nothing of ours, reads the packaged configuration."""
    config = (
        (root / "etc" / "consoled" / "consoled.toml").read_text().replace("/var/log/consoled", str(tmp_path / "log"))
    )
    (tmp_path / "consoled.toml").write_text(config)
    (tmp_path / "tokens.toml").write_bytes((root / "etc" / "consoled" / "tokens.toml").read_bytes())
    python = root / "opt" / "consoled" / "bin" / "python"
    code = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
    done = subprocess.run(
        [python, "-I", "-c", code, "consoled", "--config", tmp_path / "consoled.toml", "--check"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "0 consoles, and nothing wrong" in done.stdout, done.stderr


def test_it_installs_starts_reloads_and_goes_without_a_trace(package, tmp_path):
    unshare = need("unshare", "util-linux")
    need("systemd-sysusers", "systemd")
    need("systemd-tmpfiles", "systemd")
    spaces = [unshare, "--mount", "--pid", "--net", "--fork", "--kill-child"]
    layers = "lowerdir=/,upperdir=$0/u,workdir=$0/w"
    overlay = f"mount -t tmpfs none $0 && mkdir $0/u $0/w $0/m && mount -t overlay none -o {layers} $0/m"
    if (
        os.geteuid()
        or subprocess.run([*spaces, "sh", "-c", overlay, tmp_path], capture_output=True, timeout=30).returncode
    ):
        pytest.skip("only root can make namespaces and overlays, and not everywhere")
    program = Path(__file__).with_name("installing.py")
    copy = tmp_path / "installing.py"  # the checkout may be where Debian's Python must not write
    copy.write_bytes(program.read_bytes())
    work = tmp_path / "work"
    work.mkdir()
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [*spaces, "/usr/bin/python3", "-B", copy, package, work],
        env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    assert done.returncode == 0
