"""Keys, origins, and where a service may be bound."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from running_service import KEY, OTHER, code_of, running
from wav2small.errors import Wav2SmallError
from wav2small.serve import guard
from wav2small.serve.settings import Settings, check_bind, from_json, read_keys

PAGE = "https://page.example"


@pytest.fixture(scope="module")
def locked():
    with running(keys=(KEY, OTHER), origins=(PAGE,)) as found:
        yield found


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Token {OTHER}"},
        {"X-Api-Key": OTHER},
        {"X-Api-Key": KEY, "Host": "service.example"},
    ],
)
def test_a_key_opens(locked, headers):
    assert locked.get("/v1/models", **headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"X-Api-Key": KEY[:-1]},
        {"X-Api-Key": ""},
        {"Authorization": "Bearer \xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/nothing"])
def test_a_wrong_key_is_refused(locked, headers, path):
    status, content = locked.get(path, **headers)
    assert (status, code_of(content)) == (401, "key_invalid")


def test_a_file_without_a_key_is_refused_before_it_is_read(locked):
    assert locked.refused(bytes(1000)) == (401, "key_invalid")


def test_health_and_documents_need_no_key(locked):
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json", "/wav2small.js"):
        assert locked.request("GET", path)[0] == 200


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token"])
def test_a_key_in_a_url_is_refused(locked, name):
    status, content = locked.get(f"/v1/models?{name}={KEY}", Authorization=f"Bearer {KEY}")
    assert (status, code_of(content)) == (400, "key_in_url")
    assert KEY not in str(content)


@pytest.mark.parametrize("path", ["/v1/emotion/realtime", "/v1/listen"])
def test_sessions_need_a_key_which_browsers_send_as_a_subprotocol(locked, path):
    with connect(locked.ws + path, subprotocols=["bearer", KEY]) as socket:
        assert socket.subprotocol == "bearer"
    with connect(locked.ws + path, additional_headers={"Authorization": f"Token {KEY}"}) as socket:
        assert socket.subprotocol is None
    for wrong in ({}, {"subprotocols": ["bearer", KEY + "x"]}, {"subprotocols": [KEY]}):
        with pytest.raises(InvalidStatus) as caught, connect(locked.ws + path, **wrong):
            pass
        response = caught.value.response
        assert response.status_code == 401 and code_of(json.loads(response.body)) == "key_invalid"


def test_every_key_is_compared(locked, monkeypatch):
    """The time of a comparison shows neither which key fits nor how far."""
    compared = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda one, two: compared.append((one, two)) or one == two)
    locked.get("/v1/models", **{"X-Api-Key": KEY})
    locked.get("/v1/models", **{"X-Api-Key": "x"})
    assert len(compared) == 4 and {len(key) for pair in compared for key in pair} == {32}


def test_other_pages_are_refused_and_allowed_ones_get_their_headers(locked, service):
    key = {"X-Api-Key": KEY}
    assert locked.get("/v1/models", Origin="https://evil.example", **key)[0] == 403
    status, headers, _ = locked.request("GET", "/v1/models", headers={"Origin": PAGE, **key})
    assert status == 200 and headers["access-control-allow-origin"] == PAGE
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    assert locked.request("OPTIONS", "/v1/audio/emotion", headers=asked)[0] == 200
    with pytest.raises(InvalidStatus), connect(service.ws + "/v1/listen", origin="https://evil.example"):
        pass
    own = f"http://127.0.0.1:{service.port}"
    with connect(service.ws + "/v1/emotion/realtime", origin=own) as socket:
        assert json.loads(socket.recv())["type"] == "session.created"


def test_without_keys_another_name_of_this_machine_is_refused(service):
    """A page whose name is given the address of this machine has that name in its requests."""
    for host in ("evil.example", "evil.example:8000", "[", ""):
        assert service.request("GET", "/v1/models", headers={"Host": host})[0] in (400, 403), host
    assert service.get("/v1/models", Host="localhost:1")[0] == 200


def test_keys_come_from_a_file_and_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text(f"# of the laboratory\n{KEY}\n\n")
    monkeypatch.setenv("WAV2SMALL_KEYS", f"{OTHER}, {KEY}")
    assert read_keys(Settings(keys_file=str(path))) == (KEY, OTHER)
    for text, said in (("", "holds no key"), ("short\n", "key 1 is not 16"), ("with spaces, and a comma\n", "key 1")):
        path.write_text(text)
        with pytest.raises(Wav2SmallError, match=said) as caught:
            read_keys(Settings(keys_file=str(path)))
        assert not text or text.strip() not in str(caught.value)
    with pytest.raises(Wav2SmallError, match="cannot be read"):
        read_keys(Settings(keys_file=str(tmp_path / "none")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "service.example"])
def test_a_public_address_needs_a_key(host):
    with pytest.raises(Wav2SmallError, match="no key"):
        check_bind(Settings(host), ())
    check_bind(Settings(host), (KEY,))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_an_address_of_this_machine_needs_none(host):
    check_bind(Settings(host), ())


def test_settings_go_through_json_without_their_keys():
    settings = Settings(port=1, origins=("https://a.example",), keys_file="keys")
    assert from_json(settings.to_json()) == settings and KEY not in settings.to_json()
