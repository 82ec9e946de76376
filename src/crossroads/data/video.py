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
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from crossroads.data.open_video import forget, open_video
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
        found = open_video(path).frames(wanted, tolerance_s=tolerance_s)
    except (FFmpegError, IndexError, FileNotFoundError) as error:
        forget(path)
        got = "no such file" if not path.is_file() else f"{path.stat().st_size} bytes, {error}"
        raise InputError(
            where=str(path), expected="a readable mp4 file", got=got, do="Copy or record this file again."
        ) from error
    except BaseException:  # whatever it was, the decoder is in the middle of something
        forget(path)
        raise
    return found if np.array_equal(times, wanted) else found[inverse]
