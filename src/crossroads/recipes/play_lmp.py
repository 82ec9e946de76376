"""Play-LMP: plans read from windows of play, proposed from the present and a goal, and acted on step by step.

Lynch et al. 2019, arXiv 1903.01973, with goals in pictures or words as MCIL has them (Lynch and Sermanet 2020, arXiv
2005.07648; mees/calvin, MIT). In training the whole window tells the plan, of which the decoder makes its actions, and
the proposal is kept near what it tells. When acting a plan is drawn from the proposal and held for as many steps as a
window has.
"""

from __future__ import annotations

from crossroads.codecs.percepts import GoalPercept
from crossroads.codecs.plan import BarePlan, PlanAnswer
from crossroads.objectives import Likelihood
from crossroads.plans import KL
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.play_lmp_sizes import NANO, PlaySize
from crossroads.schedule import Draw, Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, POSTERIOR, PRIOR, Clock, Edge, Stream, reads
from crossroads.towers.given import Given

DEPARTS = (
    "Windows have one length; published draws 16 to 32 steps (HULC: 20 to 32) and replans every 30.",
    "Behind the end of an episode its last moment is seen again, as published; the actions there, which published "
    "fills with zeros and learns, do not count.",
    "A window's goal is its last picture in half of the samples and the words in the others; published has a batch of "
    "each, whose words are those of annotated windows alone.",
    "A goal picture is seen with the joints of the present; published with those of its own moment.",
    "Nothing is dropped out, and no noise is added to pictures (published 0.01).",
    "Acting goes through all steps since the plan was drawn, from the beginning; published keeps the decoder's state, "
    "which comes to the same.",
    "A plan is held only where as much is executed as lies between two steps; else each call draws anew.",
    "The trainer's optimiser; published Adam.",
)


def play_lmp(size: PlaySize = NANO, *, name: str = "play_lmp", paper: str = "") -> Recipe:
    """Play-LMP at one of its sizes."""
    answer = PlanAnswer(family=size.family)
    streams = (
        Stream(name="seen", carries="image", codec=size.seen, tower="percept"),
        Stream(
            name="aim",
            carries="image",
            codec=GoalPercept(percepts=size.seen, share=size.by_picture),
            tower="percept",
            shares="seen",
        ),
        Stream(name="goal", carries="text", codec=size.words, tower="goal"),
        Stream(name="proposed", carries="plan", codec=answer, tower="proposal", views=(PRIOR,)),
        Stream(name="recognised", carries="plan", codec=answer, tower="recognition", views=(POSTERIOR,)),
        Stream(
            name="plan",
            carries="plan",
            codec=BarePlan(size=size.family.size),
            tower="plan",
            views=(NOISED,),
            objective=KL(
                family=size.family,
                posterior="recognised",
                prior="proposed",
                weight=size.kl_weight,
                balance=size.kl_balance,
            ),
        ),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="decoder",
            views=(NOISED,),
            objective=Likelihood(law=size.action.law),
        ),
    )
    edges = (
        *reads("goal", "aim", via="cross"),
        *reads("proposed", "seen", via="cross"),
        *reads("recognised", "seen", via="cross"),
        *reads("action", "seen", "plan", via="cross"),
        *(Edge(dst=reader, src="goal", via="cross", tap=0) for reader in ("proposed", "action")),
    )
    own = ("goal", "proposal", "recognition", "decoder")
    return Recipe(
        name=name,
        paper=paper or "Lynch et al. 2019, arXiv 1903.01973; Lynch and Sermanet 2020, arXiv 2005.07648",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="percept", spec=Given(width=size.seen.width)),
                Tower(name="plan", spec=Given(width=size.family.size)),
                *(Tower(name=part, spec=getattr(size, part)) for part in own),
            ),
            schedule=(Draw(stream="plan"), Predict(streams=("action",))),
            clock=Clock(
                block_s=size.seen.steps.apart_s, tokens_per_block=(("seen", 1), ("action", size.action.num_actions))
            ),
        ),
        phases=(Phase(name="full", trains=("percept", "plan", *own), losses=("action", "plan")),),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="latent"),
        departs=(*size.departs, *DEPARTS),
        because=("What is latent is the plan: the actions that are learned of it are ordinary numbers.",),
    )
