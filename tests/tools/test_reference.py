"""The reference has every key, as the daemon has it, and what is kept in git is what would be written now."""

import tomllib

import msgspec
import pytest

from consoled.units import Duration, Size, units
from tools import reference, settings


def test_what_is_kept_is_up_to_date():
    assert reference.PAGE.read_text() == reference.page(), "make docs"
    assert reference.MANUAL.read_text() == reference.manual(), "make docs"


def test_every_key_has_words_of_its_own():
    tables = list(settings.tables())
    assert len(tables) > 30
    for table in tables:
        assert table.text or table.keys, table.title
        for key in table.keys:
            assert key.text and key.form, (table.title, key.name)


def test_each_kind_of_a_table_has_its_own():
    by_title = {table.title: {key.name for key in table.keys} for table in settings.tables()}
    for kind, struct in settings.config.KINDS.items():
        own = by_title[f'[[console]] with kind = "{kind}"']
        assert own | by_title["[[console]]"] >= set(struct.__struct_fields__)
        assert not own & by_title["[[console]]"]
    assert {"kind", "name"} <= by_title["[[source]]"]
    assert "url" in by_title['[[source]] with kind = "http"']
    assert by_title["[console.tls]"] >= {"ca", "fingerprint"}
    assert "claim" in by_title["[[auth.jwt.grant]]"]


class Silent(msgspec.Struct):
    """Said."""

    said: int = 1
    """It is."""
    unsaid: int = 2
    next: int = 3
    """It is, too."""


def test_a_key_without_a_docstring_is_refused():
    with pytest.raises(settings.Undocumented, match=r"Silent\.unsaid \(there\) has no docstring"):
        list(settings._keys(Silent, "there"))


class Extending(Silent):
    """Of what it extends, and its own."""

    unsaid: int = 2
    """Now it is."""


def test_docstrings_are_inherited_and_replaced():
    assert settings.docstrings(Extending) == {"said": "It is.", "unsaid": "Now it is.", "next": "It is, too."}


def test_every_default_is_written_as_it_could_be_configured():
    seen = 0
    for struct in structs():
        for field in msgspec.structs.fields(struct):
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            text = settings.as_toml(default)
            # An empty text may stand for nothing at all, and be nothing to write.
            if text not in ("", '""'):
                value = msgspec.convert(tomllib.loads(f"x = {text}")["x"], field.type, dec_hook=units(""))
                assert value == default, (struct, field.name)
                seen += 1
    assert seen > 80


def structs():
    """What the configuration is made of, in as far as its module names it."""
    return [one for one in vars(settings.config).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration(0), "0"), (Duration(0.5), '"500ms"'), (Duration(90), '"90s"'), (Duration(300), '"5m"'),
        (Duration(3600), '"1h"'), (Size(1000), "1000"), (Size(65536), '"64 KiB"'), (True, "true"), ((), "[]"),
        ('a"\\', '"a\\"\\\\"'), (None, ""), ({}, "{}"), ((1, "b"), '[1, "b"]'), (1.5, "1.5"),
    ],
)  # fmt: skip
def test_how_a_default_is_written(value, text):
    assert settings.as_toml(value) == text


def test_the_pages_name_what_an_operator_looks_for():
    for text in (reference.page(), reference.manual()):
        for word in ("max_unwritten", "trusted_proxies", "zone_handshake", "cipher_suites", "pattern", "1 to 65535"):
            assert word in text.replace("\\", "")


def test_the_manual_pages_have_nothing_that_roff_would_obey():
    for line in reference.manual().splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in {
            ".TH",
            ".SH",
            ".SS",
            ".TP",
            ".IP",
            ".PP",
            ".B",
            ".BR",
            ".I",
            '.\\"',
        }
