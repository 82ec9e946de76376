"""Serves a policy over openpi's WebSocket protocol: what stands behind a `ws://` arm of `crossroads eval`.

Here the policy is a run of `crossroads train` (or a cell of a pilot). To serve your own, replace `Served.infer`: it
gets one observation map and returns a map with `actions`, float32 `[horizon, dim]`, in the robot's physical units.
The protocol shows the present moment alone, so a recipe that goes on from what it saw (DreamZero, LingBot-VA) starts
anew at each request.

    python examples/serve_policy.py --run runs/pi0 --port 8000
    crossroads eval --arm ws://localhost:8000 --arm runs/fast_wam --env tabletop --out runs/versus

Source of the protocol: openpi, src/openpi/serving/websocket_policy_server.py (Physical-Intelligence/openpi).
"""

from __future__ import annotations

import argparse
import asyncio
import http
import time
import traceback
import zlib
from pathlib import Path
from typing import Any

import torch
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from crossroads.pilot.single import restore
from crossroads.serve.codec import pack, unpack
from crossroads.types import Observation


class Served:
    """A trained policy that answers one observation at a time."""

    def __init__(self, run: Path) -> None:
        self.policy = restore(run)
        self.metadata = {"recipe": self.policy.recipe.name, "robot": self.policy.space.robot}

    def infer(self, seen: dict[str, Any]) -> dict[str, Any]:
        """The next chunk; its noise is drawn from a seed that the observation gives, so equal requests agree."""
        (camera,) = self.policy.recipe.window.cameras
        image, state = torch.from_numpy(seen["observation/image"]), torch.from_numpy(seen["observation/state"])
        obs = Observation(
            images={camera: image[None]},
            state=state[None],
            text=(seen["prompt"],),
            robot=(self.policy.space.robot,),
            time_s=torch.zeros(1),
        )
        generator = torch.Generator().manual_seed(zlib.crc32(image.numpy().tobytes()))
        chunk, _ = self.policy.act(obs, self.policy.start(1), generator=generator)
        return {"actions": chunk.values[0].numpy()}


async def handle(connection: ServerConnection, policy: Served) -> None:
    """One client: metadata first, then an answer to each observation; a traceback as text when one fails."""
    await connection.send(pack(policy.metadata))
    while True:
        try:
            seen = unpack(await connection.recv(decode=False))
            started = time.perf_counter()
            answer = await asyncio.to_thread(policy.infer, seen)  # others are not kept waiting by this one's policy
            took_ms = 1e3 * (time.perf_counter() - started)
            await connection.send(pack({**answer, "server_timing": {"infer_ms": took_ms}}))
        except ConnectionClosed:
            return
        except Exception:
            await connection.send(traceback.format_exc())
            await connection.close(code=1011, reason="the traceback was sent")
            return


def health(connection: ServerConnection, request: Request) -> Response | None:
    """`GET /healthz` answers 200; everything else goes on as a WebSocket."""
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None


async def main() -> None:
    reader = argparse.ArgumentParser(description="Serve a trained run over openpi's WebSocket protocol.")
    reader.add_argument("--run", type=Path, required=True)
    reader.add_argument("--host", default="localhost")
    reader.add_argument("--port", type=int, default=8000)
    arguments = reader.parse_args()
    torch.set_num_threads(1)
    policy = Served(arguments.run)
    async with serve(
        lambda connection: handle(connection, policy),
        arguments.host,
        arguments.port,
        compression=None,
        max_size=None,
        process_request=health,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"{policy.metadata['recipe']} at ws://{arguments.host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
