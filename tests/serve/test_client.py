"""The client says what is wrong with a server, and never waits for ever."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from policy_server import openpi_handler, serving
from websockets.sync.server import ServerConnection

from crossroads.errors import InputError
from crossroads.serve.client import PolicyClient
from crossroads.serve.codec import pack


def echo(observation: dict) -> dict:
    return {"actions": observation["x"] * 2}


def test_the_client_needs_no_torch() -> None:
    code = "import sys, crossroads.serve.client, crossroads.serve.keys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_metadata_comes_first_and_each_observation_gets_its_answer() -> None:
    with serving(openpi_handler(echo, {"robot": "toy", "low": np.zeros(2)})) as address:
        with PolicyClient(address, timeout_s=10) as client:
            assert client.metadata["robot"] == "toy"
            for value in (1.0, 2.0):
                assert (
                    client.infer({"x": np.full((2, 3), value)})["actions"].tolist()
                    == np.full((2, 3), 2 * value).tolist()
                )
            assert client.num_reconnects == 0
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            address.replace("ws", "http") + "/healthz", timeout=10
        ) as health:
            assert health.status == 200


def test_two_clients_at_once_get_their_own_answers() -> None:
    with (
        serving(openpi_handler(echo)) as address,
        PolicyClient(address, timeout_s=10) as one,
        PolicyClient(address, timeout_s=10) as other,
    ):
        assert other.infer({"x": np.ones(1)})["actions"] == 2
        assert one.infer({"x": np.zeros(1)})["actions"] == 0


def test_the_key_goes_into_the_header_that_openpi_names() -> None:
    seen = []

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers.get("Authorization"))
        connection.send(pack({}))

    with serving(handle) as address:
        PolicyClient(address, timeout_s=10, api_key="secret").close()
        PolicyClient(address, timeout_s=10).close()
    assert seen == ["Api-Key secret", None]


@pytest.mark.parametrize("address", ["localhost:8000", "http://localhost", "ws://", "ws://host:port", "ws://[::1"])
def test_what_is_no_address_is_said_so(address: str) -> None:
    with pytest.raises(InputError, match="ws://localhost:8000"):
        PolicyClient(address, timeout_s=1)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ws://127.0.0.1", "ws://127.0.0.1:8000"),
        ("ws://127.0.0.1/path", "ws://127.0.0.1:8000/path"),
        ("wss://127.0.0.1:1", "wss://127.0.0.1:1"),
        ("wss://127.0.0.1", "wss://127.0.0.1"),
    ],
)
def test_the_default_port_is_that_of_openpi_and_tls_keeps_its_own(
    given: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(address: str, **_: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("crossroads.serve.client.connect", refuse)
    with pytest.raises(InputError, match="nobody"):
        PolicyClient(given, timeout_s=1)
    assert tried == [used]


def test_a_server_that_is_not_there_is_said_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=r"nobody .*refused.*Start the server first"):
        PolicyClient(f"ws://127.0.0.1:{port}", timeout_s=1)


def send(frame: bytes | str):
    def handle(connection: ServerConnection) -> None:
        connection.send(frame)
        connection.recv()

    return handle


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ("Traceback: no checkpoint", "no checkpoint"),
        (b"\xc1 not msgpack", "cannot be read"),
        (pack({"x": 1})[:-1], "cannot be read"),
        (b"\x93\x01\x02\x03", "a list"),
        (pack({"needs_session_id": True}), "RoboArena"),
        (pack({"available_unnorm_keys": ["a"]}), "starVLA"),
    ],
)
def test_wrong_metadata_is_named(frame: bytes | str, said: str) -> None:
    with serving(send(frame)) as address, pytest.raises(InputError, match=said) as wrong:
        PolicyClient(address, timeout_s=10)
    assert wrong.value.where == address
    assert wrong.value.do


def test_a_server_without_metadata_ends_the_wait() -> None:
    def listen(connection: ServerConnection) -> None:
        connection.recv()

    with (
        serving(listen) as address,
        pytest.raises(InputError, match=r"nothing in 0\.2 s"),
    ):
        PolicyClient(address, timeout_s=0.2)


def test_a_traceback_of_the_server_is_shown() -> None:
    def infer(observation: dict) -> dict:
        raise KeyError("observation/gripper")

    with serving(openpi_handler(infer)) as address, PolicyClient(address, timeout_s=10) as client:
        with pytest.raises(InputError, match=r"(?s)Traceback.*KeyError: 'observation/gripper'"):
            client.infer({})
        assert client.num_reconnects == 0, "an error is an answer"


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Set at the end, so that a server that waits for it can go."""
    event = threading.Event()
    yield event
    event.set()


def test_a_slow_answer_ends_the_wait_and_is_not_taken_for_the_next_one(held: threading.Event) -> None:
    slow = [True]

    def infer(observation: dict) -> dict:
        if slow.pop() if slow else False:
            held.wait(30)
        return echo(observation)

    with serving(openpi_handler(infer)) as address, PolicyClient(address, timeout_s=0.3) as client:
        with pytest.raises(InputError, match=r"nothing in 0\.3 s\. Give it longer with --timeout-s"):
            client.infer({"x": np.ones(1)})
        held.set()
        assert client.infer({"x": np.full(1, 5.0)})["actions"] == 10


def test_a_server_that_does_not_read_ends_the_wait(held: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def shake() -> None:
            """The handshake by hand: whatever reads on its own would empty the buffer."""
            from websockets.frames import Frame, Opcode
            from websockets.server import ServerProtocol

            peer, _ = listener.accept()
            protocol = ServerProtocol()
            while not (events := protocol.events_received()):
                protocol.receive_data(peer.recv(4096))
            protocol.send_response(protocol.accept(events[0]))  # pyright: ignore[reportArgumentType]
            peer.sendall(b"".join(protocol.data_to_send()))
            peer.sendall(Frame(Opcode.BINARY, pack({})).serialize(mask=False))
            held.wait(60)
            peer.close()

        thread = threading.Thread(target=shake)
        thread.start()
        client = PolicyClient(f"ws://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.5)
        with pytest.raises(InputError, match=r"no room in 0\.5 s"):
            client.infer({"x": np.zeros(30_000_000, np.uint8)})
        client.close()
        held.set()
        thread.join()


def test_a_broken_connection_is_opened_once_more_and_not_twice() -> None:
    with serving(openpi_handler(echo, {"v": 1}, answers=2)) as address, PolicyClient(address, timeout_s=10) as client:
        for _ in range(6):
            assert client.infer({"x": np.ones(1)})["actions"] == 2
        assert client.num_reconnects == 2

    def leave(connection: ServerConnection) -> None:
        connection.send(pack({}))

    with serving(leave) as address, PolicyClient(address, timeout_s=10) as client:
        with pytest.raises(InputError, match="broke twice"):
            client.infer({})
        assert client.num_reconnects == 1


def test_another_policy_after_reconnecting_is_refused() -> None:
    versions = iter([{"checkpoint": np.arange(num)} for num in (2, 3, 4)])

    def handle(connection: ServerConnection) -> None:
        openpi_handler(echo, next(versions), answers=1)(connection)

    with serving(handle) as address, PolicyClient(address, timeout_s=10) as client:
        client.infer({"x": np.ones(1)})
        for _ in range(2):
            with pytest.raises(InputError, match="other metadata"):
                client.infer({"x": np.ones(1)})
