"""Pictures at the size that is trained on."""

from __future__ import annotations

import numpy as np


def resize(frames: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Frames `[n, h, w, 3]` at another size: antialiased bilinear, which averages areas when shrinking."""
    if frames.shape[1:3] == tuple(image_hw) or len(frames) == 0:
        return frames if frames.shape[1:3] == tuple(image_hw) else np.empty((0, *image_hw, 3), np.uint8)
    import torch  # a process that only decodes does without

    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    planes = torch.nn.functional.interpolate(planes, size=image_hw, mode="bilinear", antialias=True)
    return planes.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
