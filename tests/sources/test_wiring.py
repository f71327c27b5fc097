"""A daemon with a source: what it says becomes consoles, at the start, at a reload and by itself."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList
from twisted.logger import formatEvent, globalLogPublisher

from consoled.core.faults import NotReloaded
from tests.test_reload import House, Node, demo, eventually, house, process  # noqa: F401  # fixtures


@pytest.fixture
def printed(house: House) -> Any:  # noqa: F811
    """Have the source print these consoles."""

    def printed(*names: str, **more: str) -> None:
        entries = [{"name": name, "group": "rack"} | more for name in names]
        (house.home / "list.json").write_text(json.dumps(entries))

    return printed


def written(house: House, node: Node, more: str = "") -> str:  # noqa: F811
    return (
        f'[[group]]\nname = "rack"\nkind = "tcp"\naddress = "{node.address}"\n'
        f'[[source]]\nname = "cmdb"\nkind = "command"\ncommand = ["cat", "{house.home}/list.json"]\n{more}\n'
    )


def names(house: House) -> set[str]:  # noqa: F811
    return {console.name for console in house.daemon._hub}


@pytest_twisted.ensureDeferred
async def test_the_life_of_a_source(house: House, printed: Any) -> None:  # noqa: F811
    node = house.nodes["n1"] = Node()
    printed(*(f"n{number}" for number in range(10)))
    await house.start(written(house, node))
    everything = {f"n{number}" for number in range(10)}
    await eventually(lambda: names(house) == everything, "the inventory")
    await eventually(lambda: len([call for call in node.calls if call.is_there]) == 10, "the links")
    ports = {call.port for call in node.calls}

    printed(*(f"n{number}" for number in range(11)))
    changes = await house.reload(written(house, node))
    assert changes.added == ("n10",)
    assert (changes.changed, changes.removed, changes.settings) == ((), (), ())

    printed("n1")
    changes = await house.reload(written(house, node))
    assert changes.removed == ()
    assert "10 of 11 consoles" in str(house.daemon._trouble())

    (house.home / "list.json").unlink()
    changes = await house.reload(written(house, node))
    assert changes.removed == ()
    assert "its last good answer stays in force, with 11 consoles" in str(house.daemon._trouble())
    assert ports <= {call.port for call in node.calls if call.is_there}

    (house.home / "state" / "sources" / "cmdb.confirm").touch()
    changes = await house.reload(written(house, node))
    assert set(changes.removed) == everything - {"n1"} | {"n10"}
    assert names(house) == {"n1"}


@pytest_twisted.ensureDeferred
async def test_a_source_that_is_polled(house: House, printed: Any) -> None:  # noqa: F811
    node = house.nodes["n1"] = Node()
    printed("n1")
    await house.start(written(house, node, 'interval = "50ms"'))
    await eventually(lambda: names(house) == {"n1"}, "the inventory")
    house.path.write_text("[nonsense")  # the file is not read for it
    printed("n1", "n2")
    await eventually(lambda: names(house) == {"n1", "n2"}, "the second console")


@pytest_twisted.ensureDeferred
async def test_a_console_that_cannot_be_made_does_not_cost_the_others(house: House, printed: Any) -> None:  # noqa: F811
    node = house.nodes["n1"] = Node()
    entries = [{"name": "n1", "group": "rack"}, {"name": "n2", "group": "rack", "tls": {"ca": "/nowhere"}}]
    (house.home / "list.json").write_text(json.dumps(entries))
    await house.start(written(house, node))
    await eventually(lambda: "n1" in names(house), "the inventory")


async def shrunk(house: House, printed: Any) -> Node:  # noqa: F811
    """A daemon of ten consoles whose source has lost all but one."""
    node = house.nodes["n1"] = Node()
    printed(*(f"n{number}" for number in range(10)))
    await house.start(written(house, node))
    await eventually(lambda: len(names(house)) == 10, "the inventory")
    printed("n1")
    return node


@pytest_twisted.ensureDeferred
async def test_what_is_held_back_is_confirmed_over_the_api(house: House, printed: Any) -> None:  # noqa: F811
    await shrunk(house, printed)
    status, changes = await house.post("reload")
    assert (status, changes["held_back"], changes["removed"]) == (200, ["cmdb"], [])
    for wrong, why in ("cmbd", "there is no source 'cmbd'"), ("cmbd,cmdb", "there is no source 'cmbd'"):
        assert await house.post(f"reload?confirm={wrong}") == (422, {"message": why})
        assert len(names(house)) == 10
    status, changes = await house.post("reload?confirm=cmdb")
    assert (status, changes["held_back"], len(changes["removed"])) == (200, [], 9)
    assert names(house) == {"n1"}
    kept = house.home / "state" / "sources" / "cmdb.json"
    await eventually(lambda: len(json.loads(kept.read_bytes())["entries"]) == 1, "what a restart begins with")
    status, said = await house.post("reload?confirm=cmdb")
    assert (status, said) == (422, {"message": "nothing is held back of source cmdb"})


@pytest_twisted.ensureDeferred
async def test_a_wrong_confirmation_costs_nobody_else_the_reload(house: House, printed: Any) -> None:  # noqa: F811
    node = await shrunk(house, printed)
    await house.reload(written(house, node))
    house.write(written(house, node) + demo("new"))
    asked = [house.daemon.reload(None, confirm) for confirm in ((), ("nobody",), (), ("cmdb",), ("cmdb",), ())]
    first, wrong, *others = await DeferredList(asked, consumeErrors=True)
    assert first[1].added == ("new",)
    assert not wrong[0]
    assert wrong[1].check(NotReloaded)
    assert all(success for success, _ in others)
    assert len(others[1][1].removed) == 9
    assert others[1][1] is others[2][1], "those who want the same share one"
    assert names(house) == {"n1", "new"}


@pytest_twisted.ensureDeferred
async def test_a_reload_that_is_refused_confirms_nothing(house: House, printed: Any) -> None:  # noqa: F811
    node = await shrunk(house, printed)
    await house.reload(written(house, node))
    flag = house.home / "state" / "sources" / "cmdb.confirm"
    flag.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = (
            f'listen = ["tcp:{house.port}:interface=127.0.0.1", "tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]'
        )
        house.write(written(house, node), http=listen)
        status, said = await house.post("reload?confirm=cmdb")
        assert (status, "http.listen" in said["message"]) == (422, True)
    assert len(names(house)) == 10
    assert flag.exists(), "the operator's word still stands"
    kept = json.loads((house.home / "state" / "sources" / "cmdb.json").read_bytes())
    assert len(kept["entries"]) == 10, "a restart would not know more than we"
    await house.reload(written(house, node))
    assert names(house) == {"n1"}
    assert not flag.exists()


@pytest_twisted.ensureDeferred
async def test_two_sources_with_the_same_names_fill_no_log(house: House, printed: Any) -> None:  # noqa: F811
    node = house.nodes["n1"] = Node()
    other = f'[[source]]\nname = "other"\nkind = "command"\ncommand = ["cat", "{house.home}/list.json"]\n'
    said: list[str] = []

    def heard(event: Any) -> None:
        if "left out" in (text := formatEvent(event)):
            said.append(text)

    printed(*(f"n{number}" for number in range(100)))
    await house.start(written(house, node))
    await eventually(lambda: len(names(house)) == 100, "the inventory")
    globalLogPublisher.addObserver(heard)
    try:
        await house.reload(written(house, node), other + 'group = "rack"\n')
    finally:
        globalLogPublisher.removeObserver(heard)
    assert len(said) == 21
    assert said[-1] == "80 more names of sources are left out, as others have them"
