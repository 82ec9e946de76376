"""A policy server on this machine that speaks openpi's side of the protocol, and can be told to misbehave."""

from __future__ import annotations

import http
import itertools
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from crossroads.serve.codec import pack, unpack

Infer = Callable[[dict[str, Any]], Mapping[str, Any]]
Handler = Callable[[ServerConnection], None]


def openpi_handler(infer: Infer, metadata: Mapping[str, Any] | None = None, *, answers: int | None = None) -> Handler:
    """Metadata, then an answer to each observation; hangs up without a word after ``answers`` of them."""

    def handle(connection: ServerConnection) -> None:
        connection.send(pack(metadata or {}))
        for _ in itertools.count() if answers is None else range(answers):
            try:
                observation = unpack(connection.recv(decode=False))
                answer = {**infer(observation), "server_timing": {"infer_ms": 1.5}}
                connection.send(pack(answer))
            except ConnectionClosed:
                return
            except Exception:
                connection.send(traceback.format_exc())
                connection.close(code=1011, reason="Internal server error. Traceback included in previous frame.")
                return

    return handle


def _health(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None


@contextmanager
def serving(handler: Handler, *, port: int = 0) -> Iterator[str]:
    """The address of a server that runs in a thread while the block does."""
    with serve(handler, "127.0.0.1", port, compression=None, max_size=None, process_request=_health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)
