"""The documents of the service are those of the application that runs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(ROOT / "recipes" / "service_documents.py"))


def test_openapi_is_that_of_the_running_application(service):
    text = (ROOT / "docs" / "openapi.json").read_text("utf-8")
    assert json.loads(text) == service.get("/openapi.json")[1], "run: python recipes/service_documents.py"


def test_asyncapi_is_that_of_the_messages(made):
    text = (ROOT / "docs" / "asyncapi.yaml").read_text("utf-8")
    assert text == made["asyncapi"](), "run: python recipes/service_documents.py"


def test_every_reference_of_asyncapi_leads_somewhere(made):
    content = made["yaml"].safe_load((ROOT / "docs" / "asyncapi.yaml").read_text("utf-8"))

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for inner in node:
                yield from references(inner)

    found = set(references(content))
    assert len(found) > 20
    for reference in found:
        place = content
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_the_page_of_the_service_names_every_endpoint_code_and_limit(service):
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    from wav2small.serve.errors import CODES
    from wav2small.serve.settings import Limits

    paths = [*service.get("/openapi.json")[1]["paths"], "/v1/emotion/realtime", "/v1/listen"]
    assert [path for path in paths if f"`{path}" not in page and path not in page] == []
    assert [code for code in CODES if f"`{code}`" not in page] == []
    assert f"{Limits.request_bytes // 2**20} MB" in page and f"{Limits.idle_dur:g} s" in page
