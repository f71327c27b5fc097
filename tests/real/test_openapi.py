"""The running daemon, held against the OpenAPI document that it serves: whatever a client may send, and may not."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.real.outside import Daemon

TOKEN = "a-token-of-schemathesis"
CONFIG = """
[hub]
state = "state"
[auth]
tokens = "tokens.toml"
[[console]]
name = "n[1-3]"
kind = "demo"
role = "echo"
[[console]]
name = "off"
kind = "demo"
enabled = false
"""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
EXAMPLES = 12
"""For each operation and each mode: some of them well-formed, some not."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home: Path = tmp_path_factory.mktemp("openapi")
    digest = sha256(TOKEN.encode()).hexdigest()
    (home / "tokens.toml").write_text(f'[[token]]\nname = "ada"\nsha256 = "{digest}"\nrole = "admin"\n')
    daemon = Daemon(home, CONFIG)
    try:
        yield daemon.start()
    finally:
        daemon.end()


@pytest.fixture(scope="module")
def schema(daemon: Daemon) -> Any:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{daemon.port}/v1/openapi.json")
    schema.validate()
    return schema


def at_a_console(case: Any, name: str) -> Any:
    """Names that were made up are hardly ever those of a console."""
    if name and "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = name
    return case


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_daemon_is_as_described(daemon: Daemon, schema: Any, mode: GenerationMode) -> None:
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body or operation.path_parameters):
            continue
        cases = st.builds(at_a_console, operation.as_strategy(mode), st.sampled_from(["n1", "n2", ""]))

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def hold(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=10)

        hold()
    assert "Traceback" not in daemon.log
