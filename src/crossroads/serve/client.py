"""A client of a policy server that speaks the openpi WebSocket protocol; needs no torch, and never waits for ever.

On connecting the server sends its metadata; each observation map is answered by a map with ``actions``
``[horizon, dim]``. An error comes as a *text* frame with a traceback, after which the server hangs up. Source: openpi's
``websocket_policy_server.py`` and ``websocket_client_policy.py`` (Physical-Intelligence/openpi, Apache-2.0). Unlike
that client: waits end; a server that is not there is an error, not a wait; a connection that broke is opened once more;
a late answer is never taken for the next one; and no keepalive pings are sent, which a server that computes on its
event loop cannot answer (openpi issue 717).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from crossroads.errors import InputError
from crossroads.serve.codec import pack, unpack

DEFAULT_PORT = 8000
"""Of openpi's scripts/serve_policy.py; an address with ``wss://`` and no port means 443, as everywhere."""
CONNECT_S, CLOSE_S = 10.0, 2.0
SCHEMES = ("ws://", "wss://")

OTHER_PROTOCOLS: Mapping[str, str] = {
    "needs_session_id": "RoboArena's variant (requests with an endpoint and a session)",
    "available_unnorm_keys": "starVLA's protocol (requests in an envelope)",
}
"""A key of the metadata that only this other protocol's first frame has."""


class PolicyClient:
    """One connection to a policy server; a context manager.

    Raises:
        InputError: the address is none, nobody answers there, or the answer is not the protocol's.
    """

    def __init__(self, address: str, *, timeout_s: float, api_key: str | None = None) -> None:
        """Connect and read the metadata.

        ``timeout_s`` is the longest wait for one answer; ``api_key`` goes into the header openpi names for it.
        """
        self.address, self.timeout_s = _with_port(address), timeout_s
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._open = contextlib.ExitStack()
        self._connection: ClientConnection | None = None
        self.num_reconnects = 0
        self.metadata = self._connect()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; a later call connects again."""
        self._connection = None
        self._open.close()

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to one observation; asked a second time over a new connection if the first one broke."""
        request = pack(observation)
        if self._connection is not None:
            with contextlib.suppress(ConnectionClosed):
                return self._ask(self._connection, request)
        self.close()
        self.num_reconnects += 1
        if pack(self._connect()) != pack(self.metadata):
            self.close()
            raise self._wrong(
                "the same server after reconnecting", "other metadata", "Evaluate again: the policy was changed."
            )
        assert self._connection is not None
        try:
            return self._ask(self._connection, request)
        except ConnectionClosed as error:
            self.close()
            raise self._wrong(
                "an answer", f"a connection that broke twice ({error})", "Look at the server's log."
            ) from error

    def _ask(self, connection: ClientConnection, request: bytes) -> dict[str, Any]:
        ends = time.monotonic() + self.timeout_s
        with self._sent_within(connection, self.timeout_s):
            connection.send(request)
        return self._receive(connection, ends - time.monotonic(), "a map with 'actions'")

    def _connect(self) -> dict[str, Any]:
        self._connection = None
        try:
            manager = connect(
                self.address,
                additional_headers=self._headers,
                compression=None,
                max_size=None,
                open_timeout=CONNECT_S,
                close_timeout=CLOSE_S,
                ping_interval=None,
                proxy=None,
            )
            connection = self._open.enter_context(manager)
        except TimeoutError as error:
            got, do = f"no answer in {CONNECT_S:g} s", "Check host and port, and that nothing filters them."
            raise self._wrong("a policy server", got, do) from error
        except InvalidHandshake as error:
            do = "Is this the port of the policy server, and does it want an API key?"
            raise self._wrong("a WebSocket handshake", str(error), do) from error
        except OSError as error:
            do = "Start the server first, and check host and port."
            raise self._wrong("a policy server", f"nobody ({error.strerror or error})", do) from error
        try:
            metadata = self._receive(connection, self.timeout_s, "metadata (a msgpack map)")
        except ConnectionClosed as error:
            self.close()
            do = "Look at the server's log."
            raise self._wrong("metadata (a msgpack map)", f"a closed connection ({error})", do) from error
        other = next((name for key, name in OTHER_PROTOCOLS.items() if key in metadata), None)
        if other:
            self.close()
            raise self._wrong("openpi's WebSocket protocol", other, "Put an openpi server before the policy.")
        self._connection = connection
        return metadata

    def _receive(self, connection: ClientConnection, timeout_s: float, expected: str) -> dict[str, Any]:
        try:
            frame = connection.recv(timeout=max(timeout_s, 0.0))
        except TimeoutError as error:
            self.close()  # its answer would be taken for that to the next question
            do = "Give it longer with --timeout-s (a first call may compile), or look at the server's log."
            raise self._wrong(expected, f"nothing in {self.timeout_s:g} s", do) from error
        if isinstance(frame, str):
            self.close()
            raise self._wrong(
                expected, f"an error of the server:\n{frame.strip()}\n", "Correct the server, or --remote-keys."
            )
        try:
            message = unpack(frame)
        except InputError as error:
            self.close()
            raise self._wrong(expected, error.got, error.do) from error
        if not isinstance(message, dict):
            self.close()
            raise self._wrong(expected, f"a {type(message).__name__}", "Serve with openpi's WebSocket protocol.")
        return message

    @contextlib.contextmanager
    def _sent_within(self, connection: ClientConnection, timeout_s: float) -> Iterator[None]:
        """Cut the connection when sending takes too long: a server that does not read would block it for ever."""
        late = threading.Event()

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

        guard = threading.Timer(timeout_s, cut)
        guard.daemon = True
        guard.start()
        try:
            yield
        except ConnectionClosed as error:
            if not late.is_set():
                raise
            self.close()
            do = "The server accepts connections but reads nothing; look at its log."
            raise self._wrong("to hand over an observation", f"no room in {timeout_s:g} s", do) from error
        finally:
            guard.cancel()

    def _wrong(self, expected: str, got: str, do: str) -> InputError:
        return InputError(where=self.address, expected=expected, got=got, do=do)


def _with_port(address: str) -> str:
    """The address with openpi's default port where it names none."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("ws", "wss") and bool(parts.hostname)
        port = parts.port
    except ValueError:
        known, port, parts = False, None, urlsplit("")
    if not known:
        raise InputError(
            where=address,
            expected="ws://host:port or wss://host:port",
            got=repr(address),
            do="For instance ws://localhost:8000.",
        )
    if port is not None or parts.scheme == "wss":
        return address
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{DEFAULT_PORT}").geturl()
