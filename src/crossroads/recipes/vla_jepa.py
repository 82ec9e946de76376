"""VLA-JEPA: a vision-language model whose latent actions must tell a world model what the next frames will be.

Sun et al. 2026, arXiv 2602.10098. Learned tokens behind the prompt are of two kinds: some stand in front of each step
of a predictor of frozen V-JEPA 2 features (video alone teaches them), the others are read by GR00T's action head. The
future goes to the frozen encoder alone; acting needs no predictor.
"""

from __future__ import annotations

from crossroads.codecs.frame_features import StepTokens
from crossroads.codecs.learned import LearnedTokens
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.lapa import context_edges
from crossroads.recipes.vla_jepa_sizes import FEATURES_WEIGHT, NANO, VlaJepaSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Clock, Edge, Stream, reads


def vla_jepa(size: VlaJepaSize = NANO) -> Recipe:
    """VLA-JEPA at one of its sizes."""
    steps = len(size.video.future_s)
    learned = {"latent": size.per_step * steps, "embodied": size.embodied}
    head = ("state", "future", "action")
    step = StepTokens(steps=steps, per_step=size.per_step)
    predicted = Regress(weight=FEATURES_WEIGHT)
    return Recipe(
        name="vla_jepa",
        paper="Sun et al. 2026, arXiv 2602.10098",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                *(
                    Stream(name=name, carries="plan", codec=LearnedTokens(num=num), tower="language")
                    for name, num in learned.items()
                ),
                Stream(name="step", carries="plan", codec=step, tower="predictor"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="predictor",
                    views=(NOISED,),
                    objective=predicted,
                ),
                Stream(name="state", carries="state", codec=size.state, tower="expert", told="action"),
                Stream(name="future", carries="plan", codec=size.future, tower="expert", told="action"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=size.action_flow,
                ),
            ),
            edges=(
                *context_edges(causal=size.causal),
                *reads("latent", "image", "text"),
                *reads("embodied", "image", "text", "latent"),
                *(Edge(dst=name, src=name, when="causal") for name in learned),
                *(edge for name in ("step", "video") for edge in reads(name, "step", "video", when="upto")),
                *(edge for name in ("step", "video") for edge in reads(name, "latent", via="cross")),
                *(edge for name in head for edge in reads(name, *head)),
                *(edge for name in head for edge in reads(name, "embodied", via="cross")),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="predictor", spec=size.predictor),
                Tower(name="expert", spec=size.head),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            clock=Clock(tokens_per_block=(("step", size.per_step), ("video", size.video.per_frame))),
            sequence=("image", "text", "latent", "embodied"),
        ),
        phases=(
            Phase(name="full", trains=("language", "predictor", "expert"), losses=("video", "action")),
            Phase(name="video", trains=("language", "predictor"), losses=("video",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="hierarchical", integration="latent"),
        because=("Latent actions are learned beside the robot's own, which the head makes as they are.",),
        departs=size.departs,
    )
