"""Encoding and decoding of the mp4 files of a dataset: many episodes per file, read forward from key frames.

Why so: small pictures must keep their colours (a red and an orange cube differ by a few pixels), so the default is
H.264 4:4:4 at high quality with short groups of pictures; and each frame is decoded once, in order, because decoding
the same group again and again is where LeRobot's loader spends its time (measured; Robo-DM, 2505.15558, agrees).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from crossroads.errors import InputError

CODEC = "libx264"
CODEC_NAME = "h264"
"""What `CODEC` makes."""
PIXEL_FORMAT = "yuv444p"
QUALITY_CRF = 10
PRESET = "ultrafast"
GROUP_FRAMES = 4
"""Measured on moving 64-pixel shapes: 4,800 frames/s on one core and a largest error of 10 of 255 at 3.4 kB a frame;
preset medium: 690 frames/s, 39, 1.1 kB; 4:2:0 instead of 4:4:4: 153, for the colour of a whole object edge is lost."""
LOSSLESS_CODEC = "libx264rgb"
"""H.264 in the colours of the pictures themselves; with a quantiser of 0 every bit comes back."""
SEEK_GAP_FRAMES = 48
"""Read on through a gap shorter than this instead of seeking: decoding 48 small frames costs about one seek."""


class VideoWriter:
    """One mp4 file of one camera, to which whole episodes are appended; each starts at a key frame."""

    def __init__(self, path: Path, *, fps: float, image_hw: tuple[int, int], lossless: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.num_frames, self.size_bytes = path, 0, 0
        self._rate = Fraction(fps).limit_denominator(1001)
        self._container: OutputContainer = av.open(str(path), "w")
        # One thread: the bytes must not depend on the machine. No B-frames: decoding order is display order.
        quality = {"qp": "0"} if lossless else {"crf": str(QUALITY_CRF)}
        options = quality | {"g": str(GROUP_FRAMES), "bf": "0", "preset": PRESET, "threads": "1"}
        codec = LOSSLESS_CODEC if lossless else CODEC
        self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        self._stream.height, self._stream.width = image_hw
        self._stream.pix_fmt = "rgb24" if lossless else PIXEL_FORMAT

    def append(self, frames: np.ndarray) -> None:
        """Encode the frames `[t, h, w, 3]` of one episode."""
        for position, image in enumerate(frames):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self.num_frames
            frame.time_base = 1 / self._rate
            frame.pict_type = PictureType.I if position == 0 else PictureType.NONE
            self._write(self._stream.encode(frame))
            self.num_frames += 1

    def close(self) -> None:
        self._write(self._stream.encode(None))
        self._container.close()

    def _write(self, packets: list[Packet]) -> None:
        self.size_bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


def decode(path: Path, times_s: Sequence[float] | np.ndarray, *, tolerance_s: float) -> np.ndarray:
    """The frames shown at the given times, `[n, h, w, 3]` uint8 RGB, in the order asked for.

    Raises `InputError` when the file cannot be opened or holds no frame within `tolerance_s` of a time.
    """
    times = np.asarray(times_s, dtype=np.float64)
    wanted, inverse = np.unique(times, return_inverse=True)
    try:
        found = _decode_sorted(path, wanted, tolerance_s)
    except (FFmpegError, IndexError) as error:
        got = "no such file" if not path.is_file() else f"{path.stat().st_size} bytes, {error}"
        raise InputError(
            where=str(path), expected="a readable mp4 file", got=got, do="Copy or record this file again."
        ) from error
    return found[inverse]


def _decode_sorted(path: Path, wanted: np.ndarray, tolerance_s: float) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        context = stream.codec_context
        out = np.empty((len(wanted), context.height, context.width, 3), np.uint8)
        time_base = float(stream.time_base or 0)
        gap_s = SEEK_GAP_FRAMES / float(stream.average_rate or 30)
        done = 0
        while done < len(wanted):
            container.seek(max(0, round(wanted[done] / time_base) - 1), stream=stream, backward=True)
            reached = _read_forward(container, stream, wanted, done, out, tolerance_s, gap_s)
            if reached == done:
                raise InputError(
                    where=f"{path} at {wanted[done]:.3f} s",
                    expected=f"a frame within {tolerance_s:.4f} s",
                    got="none",
                    do="The file is truncated or has another frame rate than info.json says; record it again.",
                )
            done = reached
    return out


def _read_forward(
    container: InputContainer,
    stream: VideoStream,
    wanted: np.ndarray,
    done: int,
    out: np.ndarray,
    tolerance_s: float,
    gap_s: float,
) -> int:
    """Fill `out` from `done` on until a gap asks for a seek; return the first position not filled."""
    before: tuple[float, VideoFrame] | None = None
    convert = VideoReformatter()  # a frame's own `to_ndarray` makes one per frame, at ten times the cost of decoding
    time_base = float(stream.time_base or 0)
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        now = (frame.pts * time_base, frame)
        start = done
        while done < len(wanted) and wanted[done] <= now[0]:
            near = now if before is None or now[0] - wanted[done] <= wanted[done] - before[0] else before
            if abs(near[0] - wanted[done]) > tolerance_s:
                return done
            out[done] = convert.reformat(near[1], format="rgb24").to_ndarray()
            done += 1
        if done == len(wanted) or (done > start and wanted[done] - now[0] > gap_s):
            return done
        before = now
    while done < len(wanted) and before is not None and wanted[done] - before[0] <= tolerance_s:
        out[done] = convert.reformat(before[1], format="rgb24").to_ndarray()
        done += 1
    return done
