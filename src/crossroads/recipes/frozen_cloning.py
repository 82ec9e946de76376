"""Cloning on a frozen representation: the baseline that asks what pictures alone, seen elsewhere, are worth.

R3M (Nair et al. 2022, arXiv 2203.12601), MVP (Radosavovic et al. 2022, arXiv 2210.03109) and Voltron (Karamcheti et al.
2023, arXiv 2302.12766) all put a small policy on an encoder that stays as it is. Here a small decoder reads the
encoder's states across and answers a chunk; only the decoder learns.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.blank_actions import BlankActions
from crossroads.codecs.pixels import Patches
from crossroads.codecs.representation import PictureEncoder, Representation, VoltronEncoder
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.classic import Classic
from crossroads.towers.gemma import Gemma
from crossroads.towers.given import Given


@dataclass(frozen=True, kw_only=True)
class FrozenCloningSize:
    """What differs between sizes. ``text`` None: no words beside those that the representation read itself."""

    image: Patches | Representation
    text: TextTokens | None
    state: StateToken
    action: BlankActions
    representation: Gemma | Given
    backbone: str | None
    policy: Classic
    departs: tuple[str, ...]


def decoder(*, width: int, depth: int, heads: int, num_actions: int) -> Classic:
    """A decoder over the state and queries for a chunk, as wide as what it reads."""
    return Classic(
        width=width,
        mlp=4 * width,
        depth=depth,
        heads=heads,
        num_places=1 + num_actions,
        context_width=width,
        norm_first=True,
        last_norm=True,
    )


NANO = FrozenCloningSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=nano.STATE,
    action=BlankActions(num_actions=nano.NUM_ACTIONS, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ),
    representation=nano.LANGUAGE_TOWER,
    backbone="nano_vlm",
    policy=decoder(width=nano.LANGUAGE_TOWER.width, depth=2, heads=4, num_actions=nano.NUM_ACTIONS),
    departs=("At nano size the representation is nano-vlm's, of the picture and the words together.",),
)


def published(encoder: PictureEncoder | VoltronEncoder) -> FrozenCloningSize:
    """A size on a published encoder: one camera, a Franka arm of seven joints and a gripper."""
    return FrozenCloningSize(
        image=Representation(encoder=encoder, cameras=("front",), image_hw=(224, 224)),
        text=None,
        state=StateToken(num_state=9),
        action=BlankActions(num_actions=10, action_size=9, control_hz=10.0),
        representation=Given(width=encoder.width),
        backbone=None,
        policy=decoder(width=encoder.width, depth=2, heads=6, num_actions=10),
        departs=(
            "Pictures are squeezed to the encoder's square; R3M crops their middle.",
            "Voltron is shown the present frame twice; published evaluations show an earlier one first.",
        ),
    )


PUBLISHED = published(PictureEncoder(source="facebook/vit-mae-base", width=768))
VOLTRON = published(VoltronEncoder(source="siddk/voltron-v-gen"))


def frozen_cloning(size: FrozenCloningSize = NANO) -> Recipe:
    """Cloning on a frozen representation at one of its sizes."""
    words = (Stream(name="text", carries="text", codec=size.text, tower="language"),) if size.text else ()
    seen = ("image", *(stream.name for stream in words))
    own = ("state", "action")
    return Recipe(
        name="frozen_cloning",
        paper="control; Nair et al. 2022, arXiv 2203.12601, and Karamcheti et al. 2023, arXiv 2302.12766",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                *words,
                Stream(name="state", carries="state", codec=size.state, tower="policy"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="policy",
                    views=(NOISED,),
                    objective=Regress(error="squared"),
                ),
            ),
            edges=(
                *(edge for group in seen for edge in reads(group, *seen)),
                *reads("state", "state"),
                *reads("action", *own),
                *(edge for group in own for edge in reads(group, *seen, via="cross")),
            ),
            towers=(
                Tower(name="language", spec=size.representation, backbone=size.backbone),
                Tower(name="policy", spec=size.policy),
            ),
            schedule=(Predict(streams=("action",)),),
            sequence=(*seen, *own),
        ),
        phases=(Phase(name="head", trains=("policy",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        because=("A frozen encoder without layers of ours is not counted as a tower at published size.",),
        departs=(
            *size.departs,
            "Published policies are a perceptron of two layers on one vector and the joints, which answers one action.",
        ),
    )
