"""`[cloudapi]`, and what consoles say of the machine that they are."""

from pathlib import Path

import pytest

from consoled.config import ConfigError, load

CONSOLE = '[[console]]\nname = "c"\nkind = "demo"\n'
ACCOUNT = 'account = "930896af-bf8c-48d4-885c-6573a94b1853"\n'
MACHINE = 'machine = "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60"\n'


def read(directory: Path, text: str):
    path = directory / "consoled.toml"
    path.write_text(f'[transcript]\ndirectory = "logs"\n{text}')
    return load(path)


def test_it_is_not_there_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, "").cloudapi is None
    assert read(tmp_path, "[cloudapi]").cloudapi.vmapi == ""


def test_its_accounts_are_a_way_to_log_in(tmp_path: Path) -> None:
    config = read(tmp_path, '[auth]\n[cloudapi]\naccounts = "accounts.toml"')
    assert config.cloudapi.accounts == str(tmp_path / "accounts.toml")
    assert read(tmp_path, '[auth]\n[cloudapi]\nmahi = "http://mahi"').auth is not None


def test_a_console_that_is_a_machine(tmp_path: Path) -> None:
    [console] = read(tmp_path, CONSOLE + ACCOUNT + MACHINE + 'machine_port = 1\nbrand = "lx"').consoles
    assert (console.machine_port, console.brand) == (1, "lx")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[auth]\n[cloudapi]", "auth.tokens: nobody could log in"),
        ('[cloudapi]\nvmapi = "http://x"', "cloudapi: vmapi and cnapi: one needs the other"),
        ('[cloudapi]\nvmapi = "vmapi"\ncnapi = "http://x"', "cloudapi.vmapi: 'vmapi' is no URL"),
        ('[cloudapi]\naccounts = "a"\nmahi = "http://x"', "cloudapi.mahi: accounts are in the file or in mahi"),
        (CONSOLE + ACCOUNT, "machine: an account and a machine go together"),
        (CONSOLE + MACHINE, "machine: an account and a machine go together"),
        (CONSOLE + ACCOUNT + 'machine = "x"', "machine: 'x' is no uuid in lower case"),
        (CONSOLE + MACHINE + ACCOUNT.upper().replace("ACCOUNT", "account"), "account: '930896AF-"),
        (CONSOLE + ACCOUNT + MACHINE + "machine_port = 2", "machine_port"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)
