"""What travels between the rooms: observations, batches, actions, losses, windows.

Raw units throughout (pixels 0..255, metres, radians); nothing here is normalised. Masks always exist, true = use.
Shape letters: ``b`` batch, ``f`` future frames, ``n`` action steps, ``a`` action, ``s`` state, ``h w`` pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from crossroads.errors import InputError


def ahead(camera: str, time_s: float) -> str:
    """The name under which a camera's frame of ``time_s`` later is shown."""
    return f"{camera}+{time_s:g}s"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the robot sees, feels and is told at one moment; raw units, nothing normalised."""

    images: Mapping[str, UInt8[Tensor, "*b h w 3"]]
    state: Float[Tensor, "*b s"]
    text: tuple[str, ...]
    robot: tuple[str, ...]
    time_s: Float[Tensor, "*b"]
    passed: Mapping[str, UInt8[Tensor, "*b f h w 3"]] = field(default_factory=dict)
    """The frames since the last call of a policy that remembers, at the times that it names (``Policy.passed_s``), the
    present one last; empty where it is to start anew, and for all other policies."""
    before: tuple[Observation, ...] = ()
    """What was observed before this moment, the oldest first. For a policy that looks back (``Stage.looks_back``): at
    its calls before this one, put here by the policy itself, from its memory. For one that glances back
    (``Stage.glances``): so long before as it names (``Policy.before_s``), put here by who calls it."""
    encoded: Mapping[str, Float[Tensor, "*b t rows columns c"]] = field(default_factory=dict)
    """Latents kept from before, of these images and the frames that followed them, by clip; what is not here is encoded
    when it is needed. Only training batches have any (``train.latent_cache``)."""

    @property
    def batch_size(self) -> int:
        return len(self.text)

    def to(self, device: torch.device | str) -> Observation:
        return replace(
            self,
            images={name: image.to(device) for name, image in self.images.items()},
            state=self.state.to(device),
            time_s=self.time_s.to(device),
            passed={name: frames.to(device) for name, frames in self.passed.items()},
            before=tuple(earlier.to(device) for earlier in self.before),
            encoded={name: latents.to(device) for name, latents in self.encoded.items()},
        )

    def foreseeing(self, future: Mapping[str, UInt8[Tensor, "b f h w 3"]], times_s: tuple[float, ...]) -> Observation:
        """The same moment with frames of its future shown as further cameras (what an inverse model reads)."""
        later = {ahead(name, time): frames[:, i] for name, frames in future.items() for i, time in enumerate(times_s)}
        return self.showing(later)

    def showing(self, pictures: Mapping[str, UInt8[Tensor, "b h w 3"]]) -> Observation:
        """The same moment with some pictures more, or in the place of those of the same names."""
        return replace(self, images={**self.images, **pictures})

    def rows(self, rows: Tensor) -> Observation:
        """The observations of some samples, some of them perhaps several times."""
        chosen = rows.tolist()
        return Observation(
            images={name: image[rows] for name, image in self.images.items()},
            state=self.state[rows],
            text=tuple(self.text[row] for row in chosen),
            robot=tuple(self.robot[row] for row in chosen),
            time_s=self.time_s[rows],
            passed={name: frames[rows] for name, frames in self.passed.items()},
            before=tuple(earlier.rows(rows) for earlier in self.before),
            encoded={name: latents[rows] for name, latents in self.encoded.items()},
        )

    def told(self, text: tuple[str, ...]) -> Observation:
        """The same scene under other words (the swap probe)."""
        if len(text) != len(self.text):
            raise ValueError(f"Observation.told: expected {len(self.text)} instructions, got {len(text)}.")
        return replace(self, text=text, before=tuple(earlier.told(text) for earlier in self.before))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training window per sample: the observation, then what followed."""

    obs: Observation
    actions: Float[Tensor, "b n a"]
    actions_valid: Bool[Tensor, "b n"]
    future: Mapping[str, UInt8[Tensor, "b f h w 3"]]
    future_valid: Bool[Tensor, "b f"]
    later_state: Float[Tensor, "b t s"]
    """The states at ``Window.later_state_s``, the last one repeated behind the end of the episode."""
    later_state_valid: Bool[Tensor, "b t"]
    value: Float[Tensor, " b"]
    """``discount^steps`` for the control steps from ``Window.value_after_s`` later to success, at the end of the
    episode: demonstrations succeed. Ones when nobody asks for it."""
    answer: tuple[str, ...]
    """Text the model must produce (captions, where-is answers); empty string where a sample has none."""
    weight: Float[Tensor, " b"]
    marks: Mapping[str, Float[Tensor, "b p 4"]] = field(default_factory=dict)
    """By camera, the marks of the robot's pose at ``Window.marks_after_s`` as that camera sees them now
    (``geometry.Geometry.drawn``); empty where the window asks for none."""

    @staticmethod
    def unforeseen(num: int) -> dict[str, Any]:
        """The fields of a batch that is asked for no later state and no value."""
        return {
            "later_state": torch.zeros(num, 0, 0),
            "later_state_valid": torch.zeros(num, 0, dtype=torch.bool),
            "value": torch.ones(num),
        }

    @property
    def batch_size(self) -> int:
        return self.obs.batch_size

    @property
    def held_actions(self) -> Float[Tensor, "b n a"]:
        """The actions; where one is not valid, the last one that is (the first one, where none is)."""
        steps = torch.arange(self.actions.shape[1], device=self.actions.device)
        last = (steps * self.actions_valid).amax(dim=1, keepdim=True)
        held = torch.where(self.actions_valid, steps, last).unsqueeze(-1).expand_as(self.actions)
        return self.actions.gather(1, held)

    def to(self, device: torch.device | str) -> Batch:
        return replace(
            self,
            obs=self.obs.to(device),
            actions=self.actions.to(device),
            actions_valid=self.actions_valid.to(device),
            future={name: frames.to(device) for name, frames in self.future.items()},
            future_valid=self.future_valid.to(device),
            later_state=self.later_state.to(device),
            later_state_valid=self.later_state_valid.to(device),
            value=self.value.to(device),
            weight=self.weight.to(device),
            marks={name: marks.to(device) for name, marks in self.marks.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Actions:
    """A chunk of actions in physical units, to be executed from ``time_s`` on at ``control_hz``."""

    values: Float[Tensor, "b n a"]
    control_hz: float
    imagined: Mapping[str, UInt8[Tensor, "b f h w 3"]]
    """What a policy that imagines thinks the cameras will show; empty unless it was asked to show it."""
    latencies_s: tuple[float, ...] = ()
    """Seconds that each row took where rows are asked for one by one (over a wire); empty where they came together."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Per-sample losses by name; the trainer averages them with the batch weights."""

    terms: Mapping[str, Float[Tensor, " b"]]

    @property
    def total(self) -> Float[Tensor, " b"]:
        return torch.stack(list(self.terms.values())).sum(dim=0)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The slice of an episode that a recipe asks a dataset for; all times in seconds after the observation."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    num_state: int
    num_actions: int
    action_size: int
    control_hz: float
    future_s: tuple[float, ...]
    """Times of the future frames; empty when the recipe predicts no picture."""
    later_state_s: tuple[float, ...]
    """Times of states after the first: one that is predicted, or one for each further chunk of the window."""
    value_after_s: float
    """Time of the state whose return is predicted."""
    discount: float
    """Of that return, per control step; 0 when the recipe predicts no value."""
    num_marks: int = 0
    """How many marks of the robot's pose ``marks_after_s`` later are drawn; none needs no geometry."""
    marks_after_s: float = 0.0

    @property
    def chunk_s(self) -> float:
        """How long the actions of one chunk take, of which a window may hold several; 0 without actions."""
        num_chunks = 1 + len(self.later_state_s)
        return self.num_actions / self.control_hz / num_chunks if self.num_actions else 0.0

    @staticmethod
    def merge(parts: tuple[Window, ...]) -> Window:
        """The window that serves several codecs: each asks for what it needs and leaves the rest empty."""

        def only(values: list, what: str):
            found = {value for value in values if value}
            if len(found) > 1:
                raise InputError(
                    where="window",
                    expected=f"one {what}",
                    got=str(sorted(found)),
                    do="Make the codecs of one recipe agree.",
                )
            return found.pop() if found else None

        return Window(
            cameras=tuple(sorted({camera for part in parts for camera in part.cameras})),
            image_hw=only([part.image_hw for part in parts if part.cameras], "image size") or (0, 0),
            num_state=only([part.num_state for part in parts], "state size") or 0,
            num_actions=only([part.num_actions for part in parts], "chunk length") or 0,
            action_size=only([part.action_size for part in parts], "action size") or 0,
            control_hz=only([part.control_hz for part in parts], "control rate") or 0.0,
            future_s=only([part.future_s for part in parts], "set of future times") or (),
            later_state_s=only([part.later_state_s for part in parts], "set of later states") or (),
            value_after_s=only([part.value_after_s for part in parts], "time of the value") or 0.0,
            discount=only([part.discount for part in parts], "discount") or 0.0,
            num_marks=only([part.num_marks for part in parts], "number of marks") or 0,
            marks_after_s=only([part.marks_after_s for part in parts], "time of the marks") or 0.0,
        )


NOTHING = Window(
    cameras=(),
    image_hw=(0, 0),
    num_state=0,
    num_actions=0,
    action_size=0,
    control_hz=0.0,
    future_s=(),
    later_state_s=(),
    value_after_s=0.0,
    discount=0.0,
)
"""The window of a codec that needs only the words."""
