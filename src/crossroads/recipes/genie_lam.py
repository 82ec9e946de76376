"""Latent actions as Genie learns them: a policy writes codes, and a small head says what the robot does for each.

Bruce et al. 2024, arXiv 2402.15391, sections 2.1 and 3.3. Phase ``latent_actions`` learns 8 codes for what leads from
frame to frame, of video alone; ``policy`` learns to write those of the frames to come; ``dictionary`` learns actions
from codes, of few recordings with actions (published: 200 of them fill a dictionary). Each starts from the one before.
"""

from __future__ import annotations

from crossroads.codecs.motion import MotionCodes
from crossroads.objectives import Regress, TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.genie_lam_sizes import NANO, GenieLamSize
from crossroads.recipes.lapa import context_edges
from crossroads.schedule import Decode, Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.given import Given


def genie_lam(size: GenieLamSize = NANO) -> Recipe:
    """Genie's latent actions at one of their sizes."""
    codes = MotionCodes(clip=size.motion)
    learned = Regress(error="squared", weight=size.motion.weight)
    written = TokenCE(start_token=codes.start, end_token=codes.start + 1)
    motion = Stream(
        name="motion", carries="video", codec=size.motion, tower="motion", views=(NOISED,), objective=learned
    )
    latent = Stream(
        name="latent",
        carries="plan",
        codec=codes,
        tower="language",
        views=(NOISED,),
        objective=written,
        labelled_by="motion",
    )
    action = Stream(
        name="action", carries="action", codec=size.action, tower="expert", views=(NOISED,), objective=Regress()
    )
    return Recipe(
        name="genie_lam",
        paper="Bruce et al. 2024, arXiv 2402.15391",
        stage=Stage(
            name="policy",
            streams=(
                motion,
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                latent,
                action,
            ),
            edges=(
                *context_edges(causal=size.causal),
                *reads("latent", "image", "text"),
                Edge(dst="latent", src="latent", when="causal"),
                *reads("action", "action"),
                *reads("action", "latent", via="cross"),
            ),
            towers=(
                Tower(name="motion", spec=Given(width=size.motion.size)),
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Decode(stream="latent"), Predict(streams=("action",))),
            sequence=("image", "text", "latent"),
        ),
        phases=(
            Phase(name="latent_actions", trains=("motion",), losses=("motion",)),
            Phase(name="policy", trains=("language",), losses=("latent",)),
            Phase(name="dictionary", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="hierarchical", integration="latent"),
        because=("What is written is a latent action, of which the robot's own are read.",),
        departs=size.departs,
    )
