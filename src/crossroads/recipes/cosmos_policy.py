"""Cosmos Policy: a video model becomes a policy without a change of architecture.

Kim et al. 2026, arXiv 2601.16163, code NVlabs/cosmos-policy (Apache-2.0). State, actions, future state and value are
latent frames of the clip. Everything reads everything at one noise level; what is given clean says which question is
answered: policy (the observation), world model (and the actions), value (and the future). Planning asks all three.
"""

from __future__ import annotations

import math

from crossroads.codecs.frames import ActionFrame, StateFrame, ValueFrame
from crossroads.noise import EdmLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.cosmos_policy_sizes import NANO, CosmosPolicySize
from crossroads.schedule import Branch, Denoise, Leg, Rank
from crossroads.solvers import ExponentialMultistep
from crossroads.stage import Mode, Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Stream, reads


def cosmos_policy(size: CosmosPolicySize = NANO) -> Recipe:
    """Cosmos Policy at one of its sizes: actions, future and value together."""
    return _recipe("cosmos_policy", size, (_denoise(size, "action", *FUTURE),))


def cosmos_policy_planning(size: CosmosPolicySize = NANO) -> Recipe:
    """The same weights, asked in turn for actions, for what comes of them and for what that is worth: best of N."""
    num = dict(zip(("actions", "futures", "values"), size.plan, strict=True))
    legs = (
        *(Branch(num=num["actions"]), _denoise(size, "action", *FUTURE)),
        *(Branch(num=num["futures"]), _denoise(size, *FUTURE)),
        *(Branch(num=num["values"]), _denoise(size, "value"), Rank(stream="value")),
    )
    return _recipe("cosmos_policy_planning", size, legs)


FUTURE = ("future_state", "value", "video")


def _denoise(size: CosmosPolicySize, *streams: str) -> Denoise:
    return Denoise(streams=streams, solver=ExponentialMultistep(steps=size.steps))


def _recipe(name: str, size: CosmosPolicySize, schedule: tuple[Leg, ...]) -> Recipe:
    groups = ("state", "video.now", "action", *FUTURE)
    num_frames = 1 + max(*size.slots, *size.video.future)
    after_s, frames = size.video.after_s, [size.video.frame(slot) for slot in size.slots]

    def flow(num: int) -> Flow:
        """The published loss: 10 times the mean over all latent frames; its weights make the error that of velocity."""
        return Flow(levels=EdmLevels(scale=math.sqrt(num_frames)), weight=10 * num / num_frames)

    codecs = {
        "action": ActionFrame(
            frame=frames[1], num_actions=size.num_actions, action_size=size.action_size, control_hz=size.control_hz
        ),
        "future_state": StateFrame(frame=frames[2], num_state=size.num_state, after_s=after_s),
        "value": ValueFrame(frame=frames[3], after_s=after_s),
    }
    carried = {"action": "action", "future_state": "state", "value": "value"}
    state = StateFrame(frame=frames[0], num_state=size.num_state)
    return Recipe(
        name=name,
        paper="Kim et al. 2026, arXiv 2601.16163",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED),
                    objective=flow(len(size.video.cameras)),
                ),
                Stream(name="state", carries="state", codec=state, tower="video", shares="video"),
                *(
                    Stream(
                        name=name,
                        carries=carried[name],  # pyright: ignore[reportArgumentType]
                        codec=codec,
                        tower="video",
                        views=(NOISED,),
                        objective=flow(1),
                        shares="video",
                    )
                    for name, codec in codecs.items()
                ),
            ),
            edges=(
                *reads("text", "text"),
                *(edge for group in groups for edge in reads(group, *groups)),
                *(edge for group in groups for edge in reads(group, "text", via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.tower, backbone=size.backbone),
            ),
            schedule=schedule,
            sequence=("text",),
            coupled=(("action", *FUTURE),),
        ),
        phases=(
            Phase(
                name="full",
                trains=("video",),
                losses=("action", *FUTURE),
                modes=(
                    Mode(name="world model", share=0.25, given=("action",)),
                    Mode(name="value", share=0.25, given=("action", "future_state", "video")),
                ),
            ),
        ),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="image"),
        departs=size.departs,
    )
