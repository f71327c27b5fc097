"""A daemon with a source: what it says becomes consoles, at the start, at a reload and by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from tests.test_reload import House, Node, eventually, house, process  # noqa: F401  # fixtures


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
    assert "10 consoles" in str(house.daemon._trouble())

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
