"""The predictor of V-JEPA 2-AC and of VLA-JEPA as recorded from its published class (arXiv 2506.09985, MIT).

Both hold features of frames and what stands in front of each step: an action and a state, or several latent actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.frame_features import FrameFeatures, StepTokens
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.net import StreamNet
from crossroads.objectives import Regress
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import embedded, hearing, joint_of, load_published, mask_between
from crossroads.recipes.jepa_names import UNREAD, predictor_names
from crossroads.schedule import Predict
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, Clock, Edge, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.jepa import JepaPredictor


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our predictor with its weights. ``front``: what stands in front of each step."""

    case: GoldenCase
    net: StreamNet
    spec: JepaPredictor
    per_step: int
    front: Tensor

    @property
    def per_frame(self) -> int:
        return self.spec.grid_hw[0] * self.spec.grid_hw[1]

    def latents(self, steps: int) -> dict[str, Latent]:
        """What the predictor is fed of the first steps."""
        shown = self.case.inputs["x"][:, : steps * self.per_frame]
        blank = torch.zeros(len(shown), steps * self.per_step, 0)
        front = self.front[:, : steps * self.per_step]
        video = Latent(values=torch.zeros_like(shown), valid=torch.ones(shown.shape[:2]).bool(), beside=shown)
        return {"video": video, "step": all_valid(blank), "front": all_valid(front)}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    made = case.meta["constructor"]
    steps = case.inputs["x"].shape[1] // prepared.per_frame
    most = made["num_frames"] // made["tubelet_size"]
    whole, first = predicted(prepared, steps)
    shorter, _ = predicted(prepared, steps - 1)
    num = {"step": prepared.per_step, "video": prepared.per_frame}
    order = [
        (name, step * count + index) for step in range(most) for name, count in num.items() for index in range(count)
    ]
    longest = stage_of(prepared.spec, prepared.per_step, most, made["embed_dim"], 1, causal=_causal(case)).layout
    mask = mask_between(longest, {**{name: most * count for name, count in num.items()}, "front": 1}, order)
    return Produced(
        outputs={
            "output": whole,
            "block0_out": first,
            "output_one_step_shorter": shorter,
            "mask": mask.to(torch.uint8),
        }
    )


@torch.no_grad()
def prepare(case: GoldenCase) -> Prepared:
    """Our predictor with the recorded weights; action and state, where there are both, behind maps of their own."""
    made, weights = case.meta["constructor"], case.weights
    made.demand({"use_rope": True, "use_silu": False})
    rows, columns = (side // made["patch_size"] for side in made["img_size"])
    width = made["predictor_embed_dim"]
    own = "states" in case.inputs  # V-JEPA 2-AC's; else latent actions, which are read across
    spec = JepaPredictor(
        width=width,
        heads=made["num_heads"],
        mlp=weights["predictor_blocks.0.mlp.fc1.weight"].shape[0],
        depth=made["depth"],
        grid_hw=(rows, columns),
        context_width=0 if own else made["action_embed_dim"],
    )
    fronts = ("action", "state", *(("extrinsics",) if "extrinsics" in case.inputs else ())) if own else ()
    per_step = len(fronts) or made["num_add_tokens"]
    steps = case.inputs["x"].shape[1] // (rows * columns)
    causal = _causal(case)
    stage = stage_of(spec, per_step, steps, made["embed_dim"], case.inputs["actions"].shape[1], causal=causal)
    net = build_net(stage).eval()
    beside = {f"{name}_encoder.{part}" for name in ("action", "state") for part in ("weight", "bias")}
    unused = UNREAD | (beside if own else {name for name in beside if name.startswith("state")})
    load_published(net, predictor_names(spec), weights, unused=frozenset(unused))
    front = case.inputs["actions"]
    if own:
        mapped = [
            torch.nn.functional.linear(
                case.inputs[name if name == "extrinsics" else f"{name}s"],
                weights[f"{name}_encoder.weight"],
                weights[f"{name}_encoder.bias"],
            )
            for name in fronts
        ]
        front = rearrange(torch.stack(mapped, dim=2), "b t m w -> b (t m) w")
    return Prepared(case=case, net=net, spec=spec, per_step=per_step, front=front)


def _causal(case: GoldenCase) -> bool:
    made = case.meta["constructor"]
    return bool(made["is_frame_causal"]) if "is_frame_causal" in made else True


def stage_of(
    spec: JepaPredictor, per_step: int, steps: int, size: int, num_front: int, *, causal: bool = True
) -> Stage:
    """The recipe's predictor; ``front`` stands for what a language model would give, where it is read."""
    rows, columns = spec.grid_hw
    video = FrameFeatures(
        cameras=("recorded",),
        image_hw=(rows, columns),
        patch=1,
        future_s=tuple(range(1, steps + 1)),
        size=size,
        source="recorded",
    )
    own = ("step", "video")
    width = spec.context_width or spec.width
    features = TextFeatures(source="recorded", width=width, max_tokens=num_front)
    return Stage(
        name="predictor",
        streams=(
            Stream(name="front", carries="text", codec=features, tower="given"),
            Stream(name="step", carries="plan", codec=StepTokens(steps=steps, per_step=per_step), tower="predictor"),
            Stream(name="video", carries="video", codec=video, tower="predictor", views=(NOISED,), objective=Regress()),
        ),
        edges=(
            *reads("front", "front"),
            *(edge for name in own for edge in reads(name, *own, when="upto" if causal else "all")),
            *(Edge(dst=name, src="front", via="cross") for name in own if spec.context_width),
        ),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="predictor", spec=spec)),
        schedule=(Predict(streams=("video",)),),
        clock=Clock(tokens_per_block=(("step", per_step), ("video", rows * columns))),
    )


@torch.no_grad()
def predicted(prepared: Prepared, steps: int) -> tuple[Tensor, Tensor]:
    """The next frames of the first steps, and the states behind the first block, step by step."""
    net, latents = prepared.net, prepared.latents(steps)
    inputs = embedded(net, latents, {}, latents)
    if not prepared.spec.context_width:  # a recipe's codecs would have mapped them
        inputs["step"] = replace(inputs["step"], tokens=latents["front"].values)
    with hearing(joint_of(net, "predictor").layers[0]) as heard:
        states = net(inputs, {})
    found = heard[0][0]["predictor"]
    split = found.split([steps * prepared.per_step, steps * prepared.per_frame], dim=1)
    parts = [rearrange(part, "b (t n) w -> b t n w", t=steps) for part in split]
    return net.codec("video").read(states["video"].hidden), rearrange(torch.cat(parts, dim=2), "b t n w -> b (t n) w")
