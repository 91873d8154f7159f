"""Write docs/openapi.json and docs/asyncapi.yaml from the application and its messages.

python recipes/service_documents.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from wav2small.serve import listen, messages, realtime
from wav2small.serve.app import create_app

DOCS = Path(__file__).parents[1] / "docs"
OPENAPI, ASYNCAPI = DOCS / "openapi.json", DOCS / "asyncapi.yaml"
AUDIO = {
    "summary": "Client: audio, at most 10 s a message",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}
CHANNELS: dict[str, tuple[str, Sequence[type[BaseModel]], Sequence[type[BaseModel]]]] = {
    "realtime": (realtime.ROUTE, (messages.SessionUpdate, messages.SessionClose), messages.FROM_SERVER),
    "listen": (listen.ROUTE, (messages.ListenControl,), messages.LISTEN_FROM_SERVER),
}
"""Of each channel: its address, and the messages of the client and of the server."""


def openapi() -> str:
    """OpenAPI of the application."""
    return json.dumps(create_app(keys=()).openapi(), indent=1, sort_keys=True) + "\n"


def asyncapi() -> str:
    """AsyncAPI of the two WebSockets."""
    kinds = list(dict.fromkeys(kind for _, *sides in CHANNELS.values() for side in sides for kind in side))
    template = "#/components/schemas/{model}"
    schemas = models_json_schema([(kind, "validation") for kind in kinds], ref_template=template)[1]["$defs"]
    content: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": "wav2small", "version": create_app(keys=()).version},
        "defaultContentType": "application/json",
        "channels": {name: channel(name) for name in CHANNELS},
        "operations": operations(),
        "components": {
            "messages": {"Audio frame": AUDIO} | {kind.__name__: message(kind) for kind in kinds},
            "schemas": schemas | {"ListenQuery": listen.ListenQuery.model_json_schema()},
        },
    }
    return yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


def channel(name: str) -> dict[str, Any]:
    """A WebSocket and the messages of both sides."""
    address, client, server = CHANNELS[name]
    names = ["Audio frame", *dict.fromkeys(kind.__name__ for kind in (*client, *server))]
    found: dict[str, Any] = {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }
    if name == "listen":
        found["bindings"] = {"ws": {"query": {"$ref": "#/components/schemas/ListenQuery"}}}
    return found


def operations() -> dict[str, Any]:
    """What the service receives and sends."""
    found = {}
    for name, (_, client, server) in CHANNELS.items():
        sides = {"receive": ["Audio frame", *(kind.__name__ for kind in client)]}
        sides["send"] = [kind.__name__ for kind in server]
        for action, names in sides.items():
            found[f"{name}.{action}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{one}"} for one in names],
            }
    return found


def message(kind: type[BaseModel]) -> dict[str, Any]:
    """A message by its schema."""
    return {"summary": kind.__doc__, "payload": {"$ref": f"#/components/schemas/{kind.__name__}"}}


if __name__ == "__main__":
    OPENAPI.write_text(openapi(), encoding="utf-8")
    ASYNCAPI.write_text(asyncapi(), encoding="utf-8")
