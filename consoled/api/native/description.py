"""The OpenAPI 3.1 document of `/v1`, made of the routes and of the types that they read and write.

`face` serves it; a test holds the running server against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from consoled.api.native import shapes
from consoled.api.native.routing import Route

_EVENTS = (
    (shapes.Hello, shapes.Link, shapes.Keyboard, shapes.Missed, shapes.Notice, shapes.Error, shapes.Pong, shapes.End),
    shapes.Command.__args__,
)
_ASKED = {
    401: "Nobody we know",
    403: "Not allowed",
    429: "Too many; later",
    503: "It cannot be known, or done, at present",
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The document, as what JSON is made of."""
    said, told = _EVENTS[1], _EVENTS[0]
    types = {route.body for route in routes} | {route.says for route in routes} | {shapes.Message, *said, *told}
    found, schemas = msgspec.json.schema_components(
        sorted(types - {None}, key=lambda kind: str(kind)), ref_template="#/components/schemas/{name}"
    )
    assert all("$ref" in one for one in found)
    schemas["StreamCommand"] = {"oneOf": [_ref(kind) for kind in said]}
    schemas["StreamEvent"] = {"oneOf": [_ref(kind) for kind in told]}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "consoled",
            "version": "1",
            "description": "Consoles of nodes: who they are, how they are, what they say.  See docs/api-v1.md.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {str(status): body for status, body in sorted(_answers(route).items())},
    }
    if route.verb is not None:
        operation["description"] = f"Takes the verb `{route.verb}`."
        operation["security"] = [{"token": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(_ref(route.body))}
    return operation


def _name(route: Route) -> str:
    """`getConsoleClients` for GET /v1/consoles/{name}/clients."""
    words = [part.replace(".", "-") for part in route.parts[1:] if not part.startswith("{")]
    if len(route.parts) > 2 and route.parts[2] == "{name}":
        words[0] = "console"
    if route.parts[-1] == "{id}":
        words[-1] = "client"
    return route.method.lower() + "".join(word.title().replace("-", "") for word in words)


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "name": {"type": "string", "minLength": 1},
        "id": {"type": "integer", "minimum": 1},
    }
    words = [part[1:-1] for part in route.parts if part.startswith("{")]
    return [{"name": word, "in": "path", "required": True, "schema": schemas[word]} for word in words]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    schema, components = msgspec.json.schema_components([route.query])
    properties = components[schema[0]["$ref"].rpartition("/")[2]]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": one} for name, one in properties.items()]


def _answers(route: Route) -> dict[int, dict[str, Any]]:
    answers: dict[int, dict[str, Any]] = {}
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.says is not None:
        good["content"] = _json(_ref(route.says))
    elif route.status == 200:
        kind = "application/octet-stream" if route.path.endswith("/transcript") else "application/json"
        good["content"] = {kind: {}}
    answers[route.status] = good
    refusals = {400: "Not understood"} if route.verb is not None else {503: "Not at present"}
    if route.verb is not None:
        refusals |= _ASKED
    if route.path == "/v1/health":
        refusals |= _ASKED
    if "{" in route.path or route.body is shapes.TicketWish or route.path == "/v1/reload":
        refusals |= {404: "No such console, or client", 409: "Not in this state"}
    if route.path == "/v1/reload":
        refusals |= {422: "The new configuration cannot be used, or there is nothing to confirm"}
    if route.body is not None:
        refusals |= {413: "The body is too long", 415: "The body is no application/json"}
    for status, why in {**refusals, **(route.also or {})}.items():
        answers[status] = {"description": why, "content": _json(_ref(shapes.Message))}
    if 206 in answers:
        answers[206] = {"description": (route.also or {})[206], "content": {"application/octet-stream": {}}}
    return answers


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(kind: Any) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
