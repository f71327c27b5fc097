"""The tokens file: what it may hold, and what happens while it changes under a running daemon."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from consoled.auth import tokens
from consoled.auth.credentials import BearerToken
from consoled.auth.roles import ROLES
from consoled.auth.tokens import TokensFile, parse
from consoled.auth.watched import GRACE, LARGEST
from consoled.core.access import Unauthenticated, User

EXAMPLE = Path(__file__).parents[2] / "etc" / "tokens.toml"


def entry(name: str, token: str, role: str = "operator", more: str = "") -> str:
    digest = sha256(token.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nrole = "{role}"\n{more}\n'


ALICE = entry("alice", "alice-token")
BOB = entry("bob", "bob-token")


# ------------------------------------------------------------------------------------------------ the content


def test_a_token_becomes_a_user() -> None:
    text = entry("alice", "a", "admin") + entry("ci@blue", "b", "viewer", 'tenants = ["blue", "green"]')
    assert list(parse(text.encode(), ROLES).values()) == [
        User("alice", ("admin",), None, "tokens"),
        User("ci@blue", ("viewer",), frozenset({"blue", "green"}), "tokens"),
    ]


def test_a_token_may_have_several_roles_and_an_end() -> None:
    text = ALICE.replace('role = "operator"', 'role = ["viewer", "operator"]\nexpires = 2026-11-21T23:45:00+01:00')
    [user] = parse(text.encode(), ROLES).values()
    assert user.roles == ("viewer", "operator")
    assert user.expires == 1_795_301_100.0


def test_no_tenants_at_all_is_not_the_same_as_not_bound() -> None:
    [user] = parse(entry("alice", "a", more="tenants = []").encode(), ROLES).values()
    assert user.tenants == frozenset()


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_is_fine(text: str) -> None:
    assert parse(text.encode(), ROLES) == {}


def test_one_name_may_have_several_tokens() -> None:
    assert len(parse((ALICE + entry("alice", "second")).encode(), ROLES)) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ALICE + "colour = 'blue'\n", r"`colour` - at `\$\.token\[0\]`"),
        ("tokens = []", "`tokens`"),
        (ALICE + BOB + "[[token]]\nname = 'x'", r"\$\.token\[2\]"),
        (entry("", "a"), r"\$\.token\[0\]\.name"),
        (entry("a b", "a"), r"\$\.token\[0\]\.name"),
        (entry("a\\n", "a"), r"\$\.token\[0\]\.name"),
        (entry("a\\u001b[2J", "a"), r"\$\.token\[0\]\.name"),
        (entry("a\\u202e", "a"), r"\$\.token\[0\]\.name"),
        (entry("a", "a", "root"), r"'root' is not a role \(admin, operator, viewer\) - at `\$\.token\[0\]\.role`"),
        (ALICE.replace('"operator"', '["viewer", "root"]'), r"'root' is not a role .* at `\$\.token\[0\]\.role`"),
        (ALICE.replace('"operator"', "[]"), r"\$\.token\[0\]\.role"),
        (entry("a", "a", more="expires = 2026-11-21T23:45:00"), r"timezone.* - at `\$\.token\[0\]\.expires`"),
        (entry("a", "a", more='tenants = "blue"'), r"\$\.token\[0\]\.tenants"),
        (entry("a", "a", more='tenants = ["Blue"]'), r"\$\.token\[0\]\.tenants\[0\]"),
        (ALICE + entry("bob", "alice-token"), r"the same token as 'alice' has - at `\$\.token\[1\]\.sha256`"),
        (ALICE.replace('sha256 = "', 'sha256 = "0'), r"\$\.token\[0\]\.sha256"),
        ("[[token]\n", "line 1"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_mistake_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text.encode(errors="surrogateescape"), ROLES)


def test_the_case_of_a_hash_does_not_matter() -> None:
    digest = sha256(b"alice-token").hexdigest()
    with pytest.raises(ValueError, match="the same token"):
        parse((ALICE + ALICE.replace(digest, digest.upper())).encode(), ROLES)


def test_a_token_that_was_not_hashed_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="sha256") as caught:
        parse(b'[[token]]\nname = "a"\nrole = "viewer"\nsha256 = "canary-4711"\n', ROLES)
    assert "canary" not in str(caught.value)


def test_the_example_is_valid_and_so_it_is_with_its_comments_taken_off() -> None:
    text = EXAMPLE.read_text()
    assert parse(text.encode(), ROLES) == {}
    bare = "\n".join(line.removeprefix("# ") for line in text[text.index("# [[token]]") :].splitlines())
    users = parse(bare.encode(), ROLES).values()
    assert [user.name for user in users] == ["alice", "blue-ci"]


# ------------------------------------------------------------------------------------------- the file's stories


class Story:
    """A tokens file under a daemon with a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path / "tokens.toml"
        self.clock = Clock()
        self.clock.advance(1000)
        self.write(ALICE)
        self.checker = TokensFile(self.path, ROLES, self.clock)

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)

    def later(self) -> None:
        self.clock.advance(1.0)

    def who(self, token: str) -> str | None:
        try:
            return self.checker.requestAvatarId(BearerToken(token.encode())).name
        except UnauthorizedLogin:
            return None


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def said(events: list[Any]) -> list[str]:
    return [event["trouble"] for event in events if event["log_level"] == LogLevel.error]


def test_only_the_tokens_in_the_file_are_let_in(story: Story) -> None:
    assert story.who("alice-token") == "alice"
    for token in ("bob-token", "alice-toke", "alice-token=", "", sha256(b"alice-token").hexdigest()):
        assert story.who(token) is None


@given(st.sets(st.text("abc", min_size=1, max_size=5), max_size=12), st.text("abc", min_size=1, max_size=5))
def test_each_token_is_its_own_users(tmp_path_factory: pytest.TempPathFactory, known: set[str], token: str) -> None:
    story = Story(tmp_path_factory.mktemp("tokens"))
    story.write("".join(entry(f"user-{known_token}", known_token) for known_token in sorted(known)))
    story.later()
    assert story.who(token) == (f"user-{token}" if token in known else None)


def test_every_entry_is_compared_whether_found_or_not(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.write(ALICE + BOB + entry("carol", "c"))
    story.later()
    compared: list[bytes] = []
    monkeypatch.setattr(tokens, "compare_digest", lambda a, b: compared.append(a) or a == b)
    for token in ("alice-token", "c", "nobody's"):
        story.who(token)
        assert len(compared) == 3
        compared.clear()


def test_an_edit_counts_within_a_second_and_costs_one_stat(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **more: looks.append(self) or real(self, **more))
    story.write(BOB)
    looks.clear()
    story.clock.advance(0.9)
    for _ in range(5):
        assert story.who("alice-token") == "alice"
    assert looks == []
    story.clock.advance(0.1)
    for _ in range(5):
        assert story.who("alice-token") is None
        assert story.who("bob-token") == "bob"
    assert looks == [story.path]


def test_an_unchanged_file_is_not_read_again(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "parse", None)
    story.later()
    assert story.who("alice-token") == "alice"


def test_a_clock_set_back_does_not_stop_the_looking(story: Story) -> None:
    story.clock.rightNow -= 500
    story.write(BOB)
    assert story.who("bob-token") == "bob"


def test_a_broken_file_keeps_the_last_good_list_and_says_so_once(story: Story) -> None:
    with capturedLogs() as events:
        story.write(BOB + "[[token]]\nnam = 'carol'")
        for _ in range(3):
            story.later()
            assert story.who("alice-token") == "alice"
            assert story.who("bob-token") is None
        assert story.checker.trouble is not None
        assert len(said(events)) == 1
        assert str(story.path) in said(events)[0]
        assert "nam" in said(events)[0]
        story.write(BOB)
        story.later()
        assert story.who("bob-token") == "bob"
        assert story.who("alice-token") is None
        assert story.checker.trouble is None


def test_a_missing_file_lets_nobody_in_until_it_is_back(story: Story) -> None:
    with capturedLogs() as events:
        aside = story.path.rename(story.path.with_suffix(".aside"))
        for _ in range(3):
            story.later()
            assert story.who("alice-token") is None
        assert len(said(events)) == 1
        aside.rename(story.path)
        story.later()
        assert story.who("alice-token") == "alice"
        assert story.checker.trouble is None


def test_whoever_is_in_is_known_by_the_same_token_only(story: Story) -> None:
    alice = story.checker.requestAvatarId(BearerToken(b"alice-token"))
    assert alice.again is not None
    assert alice.again() == alice
    story.write(BOB + ALICE.replace("operator", "viewer"))
    story.later()
    changed = alice.again()
    assert changed.roles == ("viewer",)
    story.write(BOB)
    story.later()
    for user in (alice, changed):
        with pytest.raises(Unauthenticated):
            user.again()


def test_whoever_is_in_stays_while_an_editor_has_the_file(story: Story) -> None:
    alice = story.checker.requestAvatarId(BearerToken(b"alice-token"))
    aside = story.path.rename(story.path.with_suffix(".aside"))
    for _ in range(5):
        story.later()
        assert story.who("alice-token") is None
        assert alice.again().name == "alice"
    story.clock.advance(GRACE - 4)
    with pytest.raises(Unauthenticated):
        alice.again()
    aside.rename(story.path)
    story.later()
    assert alice.again().name == "alice"


def test_a_token_shows_in_nothing_of_its_user(story: Story) -> None:
    story.write(entry("carol", "canary-4711"))
    story.later()
    carol = story.checker.requestAvatarId(BearerToken(b"canary-4711"))
    assert "canary" not in repr(carol) + repr(carol.again)


def test_a_missing_directory_lets_nobody_in(story: Story) -> None:
    story.path.unlink()
    story.path.parent.rmdir()
    story.later()
    assert story.who("alice-token") is None
    story.path.parent.write_text("a file now")
    story.later()
    assert story.who("alice-token") is None
    story.path.parent.unlink()


def test_a_world_writable_file_is_not_believed(story: Story) -> None:
    story.write(BOB)
    story.path.chmod(0o646)
    story.later()
    assert story.who("bob-token") is None
    assert story.who("alice-token") == "alice"
    assert "o+w" in str(story.checker.trouble)
    story.path.chmod(0o640)
    story.later()
    assert story.who("bob-token") == "bob"


def test_an_unreadable_file_keeps_the_list_and_is_tried_again(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.write(BOB)
    with capturedLogs() as events, monkeypatch.context() as broken:

        def no_descriptors(*args: Any, **kwargs: Any) -> Any:
            raise OSError(24, "Too many open files")

        broken.setattr(Path, "open", no_descriptors)
        for _ in range(3):
            story.later()
            assert story.who("alice-token") == "alice"
        assert len(said(events)) == 1
    story.later()
    assert story.who("bob-token") == "bob"


def test_what_is_no_file_is_not_opened(story: Story) -> None:
    for make in (os.mkfifo, os.mkdir):
        story.path.unlink()
        make(story.path)
        story.later()
        assert story.who("alice-token") == "alice"
        assert "not a regular file" in str(story.checker.trouble)
    story.path.rmdir()


def test_a_huge_file_is_not_parsed(story: Story) -> None:
    story.write("#" * (LARGEST + 1))
    story.later()
    assert story.who("alice-token") == "alice"
    assert "larger" in str(story.checker.trouble)


def test_a_daemon_does_not_start_on_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    with pytest.raises(FileNotFoundError):
        TokensFile(path, ROLES, Clock())
    path.write_text("[[token]]")
    with pytest.raises(ValueError, match=r"tokens\.toml: .*\$\.token\[0\]"):
        TokensFile(path, ROLES, Clock())
