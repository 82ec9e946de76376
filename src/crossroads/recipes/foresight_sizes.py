"""What GR-1 and Seer share, and its sizes: what they observe at each step of the embedded world, and of CALVIN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.fused_pixels import VisionTower
from crossroads.codecs.gripper_state import GripperState
from crossroads.codecs.resampled import MaskedAutoencoder, ResampledImages
from crossroads.codecs.resampler import Resampler
from crossroads.codecs.sentence import ClipSentences, SentenceTokens, WordMeans
from crossroads.codecs.steps import Steps
from crossroads.recipes import nano
from crossroads.streams import Clock, CodecSpec, Stream
from crossroads.towers.plain import Gpt


@dataclass(frozen=True, kw_only=True)
class ForesightSize:
    """What differs between sizes; ``action`` or ``video`` None: not asked for."""

    text: SentenceTokens
    state: GripperState
    image: ResampledImages
    action: ActionQueries | None
    video: FuturePatches | None
    tower: Gpt
    departs: tuple[str, ...]

    @property
    def asked(self) -> Mapping[Literal["action", "video"], CodecSpec]:
        """What is asked for at each step."""
        found: dict[Literal["action", "video"], CodecSpec] = {}
        if self.action:
            found["action"] = self.action
        if self.video:
            found["video"] = self.video
        return found

    def observed(self) -> tuple[Stream, ...]:
        """What is observed at each step."""
        return (
            Stream(name="text", carries="text", codec=self.text, tower="policy"),
            Stream(name="state", carries="state", codec=self.state, tower="policy"),
            Stream(name="image", carries="image", codec=self.image, tower="policy"),
        )

    def clock(self) -> Clock:
        """A block for each step."""
        asked = {name: codec.num_tokens("noised") // self.tower.num_steps for name, codec in self.asked.items()}
        per_step = {"text": 1, "state": 1, "image": self.image.per_step, **asked}
        return Clock(block_s=self.image.steps.apart_s, tokens_per_block=tuple(per_step.items()))


OBSERVED = ("text", "state", "image")
"""In the order of the tokens of a step."""
WIDTH = 96
NANO_STEPS = Steps(num=3, apart_s=0.6, ahead=2)
NANO_TEXT = SentenceTokens(source=WordMeans(vocabulary=nano.VOCABULARY, width=WIDTH), steps=NANO_STEPS)
NANO_STATE = GripperState(num_state=nano.NUM_STATE, steps=NANO_STEPS)
NANO_IMAGE = ResampledImages(
    cameras=nano.CAMERAS,
    image_hw=nano.IMAGE_HW,
    patch=8,
    vision=VisionTower(width=WIDTH, mlp=384, depth=1, heads=4, class_token=True),
    resampler=Resampler(num=9, depth=1, heads=4, head_dim=24, marked=True),
    steps=NANO_STEPS,
)
NANO_ACTION = ActionQueries(
    num_actions=nano.NUM_ACTIONS,
    action_size=nano.ACTION_SIZE,
    control_hz=nano.CONTROL_HZ,
    steps=NANO_STEPS,
    hidden=(48, 48),
)
NANO_FUTURE = FuturePatches(
    cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, patch=8, num_queries=9, steps=NANO_STEPS, depth=1, heads=4
)
NANO_TOWER = Gpt(width=WIDTH, mlp=384, depth=2, heads=4, num_steps=3, activation="relu")
NANO_DEPARTS = (
    "At nano size words are embedded by what is learned here, their mean is the sentence, and the vision transformer "
    "is small and trained with the rest; no CLIP and no masked autoencoder.",
    "At nano size one camera at 64 px, three steps 0.6 s apart, and the frame 1.2 s ahead; published has the next of "
    "10 or more control steps and the frame three steps ahead.",
    "Actions and states are scaled by their smallest and largest values; published takes those of the data set, which "
    "are so already. The gripper is the last number of both, and counts as open above the middle of its range.",
    "Nothing is dropped out, pictures are not cropped or shifted in training.",
    "Steps are looked back at only where as much is executed as lies between them; else each call starts anew.",
)

CALVIN_CAMERAS, CALVIN_HZ = ("rgb_static", "rgb_gripper"), 30.0
SQUARE, PATCH = (224, 224), 16
PUBLISHED_DEPARTS = (
    "CLIP and the masked autoencoder are loaded as transformers has them, frozen; the rest starts at random until it "
    "is imported.",
    *NANO_DEPARTS[2:],
    "Video of people (Ego4D) is no phase of its own: episodes without actions train the video loss beside the others.",
)


def steps(num: int) -> Steps:
    """So many neighbouring control steps, with the frame three later."""
    return Steps(num=num, apart_s=1 / CALVIN_HZ, ahead=3)


def clip(num: int, *, unit: bool) -> SentenceTokens:
    return SentenceTokens(
        source=ClipSentences(source="openai/clip-vit-base-patch32", width=512), steps=steps(num), unit=unit
    )


def autoencoded(num_steps: int, *, num: int, heads: int, head_dim: int, marked: bool) -> ResampledImages:
    """Both cameras through the published masked autoencoder and a resampler of three layers."""
    return ResampledImages(
        cameras=CALVIN_CAMERAS,
        image_hw=SQUARE,
        patch=PATCH,
        vision=MaskedAutoencoder(source="facebook/vit-mae-base", width=768),
        resampler=Resampler(num=num, depth=3, heads=heads, head_dim=head_dim, marked=marked),
        steps=steps(num_steps),
    )
