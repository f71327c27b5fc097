"""The converter on what Debian's packages of the two servers ship.  Their examples are read from where they are."""

import gzip
from pathlib import Path

import pytest

from consoled.importing.command import convert
from tests.importing.loading import loaded, lost
from tests.real import lack

CONMAN = Path("/etc/conman.conf")
CONSERVER = Path("/usr/share/doc/conserver-server/examples")


def example(path, package):
    """The file at `path`, or packed beside it."""
    packed = path.with_name(f"{path.name}.gz")
    if not path.exists() and not packed.exists():
        lack(str(path), package)
    return path.read_text() if path.exists() else gzip.decompress(packed.read_bytes()).decode()


def converted(text, form, tmp_path):
    path = tmp_path / "in.cf"
    path.write_text(text)
    return convert(path, form)


def test_conmans_own_file_has_only_comments(tmp_path):
    draft = converted(example(CONMAN, "conman"), "", tmp_path)
    assert draft.remarks == []
    assert loaded(draft, tmp_path).consoles == ()


def test_conmans_own_file_with_its_comments_taken_away(tmp_path):
    """Every directive that it explains is known."""
    lines = [line[2:] for line in example(CONMAN, "conman").splitlines() if line.startswith(("# server ", "# global "))]
    assert len(lines) > 15
    plain = "\n".join(lines).replace("(on|off)", "on").replace("<int>(m|h|d)", "4h").replace("<int>", "7890")
    draft = converted(plain + '\nconsole name="n1" dev="h:23"\n', "conman", tmp_path)
    assert not any("there is no such key" in str(remark) for remark in draft.remarks)
    assert [console.name for console in loaded(draft, tmp_path).consoles] == ["n1"]


def test_conservers_example(tmp_path):
    draft = converted(example(CONSERVER / "conserver.cf", "conserver-server"), "", tmp_path)
    consoles = {console.name: console for console in loaded(draft, tmp_path).consoles}
    assert {name: console.address for name, console in consoles.items() if hasattr(console, "address")} == {
        "web1.conserver.com": "ts1.conserver.com:2200",
        "ns1.conserver.com": "ts1.conserver.com:3000",
        "ns2.conserver.com": "ts1.conserver.com:2800",
        "ldap1.conserver.com": "ts2.conserver.com:2007",
    }
    assert {name: console.device for name, console in consoles.items() if hasattr(console, "device")} == {
        "ttya": "/dev/ttya",
        "modem1.conserver.com": "/dev/ttyC1",
        "modem2.conserver.com": "/dev/ttyC5",
    }
    assert consoles["ssh"].command == ("/bin/sh", "-ce", "ssh localhost")
    assert "no such key" not in lost(draft)
    assert "rw *, !bryan: on web1.conserver.com" in lost(draft)


@pytest.mark.parametrize(("name", "count"), [("test.cf", 4), ("../../../../../etc/conserver/conserver.cf", 0)])
def test_conservers_other_files(name, count, tmp_path):
    draft = converted(example(CONSERVER / name, "conserver-server"), "", tmp_path)
    assert len(loaded(draft, tmp_path).consoles) == count
    assert "no such key" not in lost(draft)
