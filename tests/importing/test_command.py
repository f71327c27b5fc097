import pytest

from consoled.importing.command import guess, main


@pytest.fixture
def file(tmp_path):
    def write(text, name="in.conf"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_everything_converted(file, capsys):
    assert main([file('console name="n1" dev="h:23"')]) == 0
    out, err = capsys.readouterr()
    assert 'address = "h:23"' in out and err == ""


def test_something_was_not(file, capsys):
    path = file("default * { type host; host h; port 1; motd x; }\nconsole n1 { }")
    assert main([path]) == 3
    out, err = capsys.readouterr()
    assert "# NOT CONVERTED: motd" in out
    assert err == f"not converted: {path}:2: console n1: motd: nothing is shown to those who attach\n"


def test_what_is_only_another_way_here_is_no_loss(file, capsys):
    assert main([file("server pidfile='/run/x'")]) == 0
    assert capsys.readouterr().err.startswith("/")


def test_included_files_are_beside_their_file(file, capsys):
    file("console n2 { type noop; }", "more.cf")
    assert main([file("#include more.cf\n", "main.cf"), "--format", "conserver"]) == 0
    assert 'name = "n2"' in capsys.readouterr().out


@pytest.mark.parametrize("text", ['"open', "console a { x", "#include nowhere.cf"])
def test_what_cannot_be_read(file, capsys, text):
    assert main([file(text), *(["--format", "conserver"] if "#" in text else [])]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("consoled-import: ")


def test_a_file_that_is_not_there(capsys):
    assert main(["/nonexistent/c.conf"]) == 1
    assert capsys.readouterr().err == "consoled-import: /nonexistent/c.conf: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('console name="a" dev="b:1"', "conman"),
        ("# console x { }\nserver port=1", "conman"),
        ("console a {\n}", "conserver"),
        ("  default * { }", "conserver"),
        ("", "conman"),
    ],
)
def test_which_of_the_two_it_is(text, form):
    assert guess(text) == form
