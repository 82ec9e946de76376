"""The matched experiments: everything is fixed here before anything is trained.

Evidence page, section 6: P1 label efficiency, P2 the 2x2 of video loss and imagined future, P3 grounding; P4 what a
language model forgets (knowledge insulation, arXiv 2505.23705).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crossroads.errors import InputError, nearest
from crossroads.pilot.design import Condition, Contrast, Crossing, Design, Part, Route
from crossroads.recipes.baseline_ki import baseline_ki
from crossroads.schedule import Decode
from crossroads.sim.tabletop.perturb import Perturbation

FEW = (20, 60)
LABELS = Design(
    key="labels",
    title="P1. Label efficiency",
    question="How many labelled demonstrations does each route need, and what is action-free video worth?",
    routes=(
        Route(name="pi0", summary="VLA, cloned from the labels", recipe="pi0", labels=(*FEW, 300)),
        Route(
            name="pi0 + pseudo-labels (motion)",
            summary="VLA; an inverse model that sees only the hand labels the action-free video",
            recipe="pi0",
            inverse="motion",
            labels=FEW,
        ),
        Route(
            name="pi0 + pseudo-labels (scene)",
            summary="VLA; an inverse model that sees whole pictures labels the action-free video",
            recipe="pi0",
            inverse="scene",
            labels=FEW,
        ),
        Route(name="fast_wam_idm", summary="WAM, imagines then acts", recipe="fast_wam_idm", labels=(*FEW, 300)),
        Route(
            name="fast_wam_idm + pseudo-labels (motion)",
            summary="WAM; an inverse model that sees only the hand labels the action-free video",
            recipe="fast_wam_idm",
            inverse="motion",
            labels=FEW,
        ),
        Route(
            name="imagined + inverse (motion)",
            summary="video model imagines, an inverse model reads the hand's motion from the clip",
            recipe=None,
            inverse="motion",
            labels=FEW,
        ),
    ),
    contrasts=(
        Contrast(name="action-free video, VLA (hand)", first="pi0 + pseudo-labels (motion)", second="pi0"),
        Contrast(name="action-free video, VLA (scene)", first="pi0 + pseudo-labels (scene)", second="pi0"),
        Contrast(
            name="action-free video, WAM (hand)",
            first="fast_wam_idm + pseudo-labels (motion)",
            second="fast_wam_idm",
        ),
        Contrast(name="WAM instead of VLA, labels alone", first="fast_wam_idm", second="pi0"),
        Contrast(
            name="WAM instead of VLA, with video",
            first="fast_wam_idm + pseudo-labels (motion)",
            second="pi0 + pseudo-labels (motion)",
        ),
        Contrast(
            name="imagining instead of relabelling",
            first="imagined + inverse (motion)",
            second="pi0 + pseudo-labels (motion)",
        ),
        Contrast(
            name="seeing the hand instead of the scene",
            first="pi0 + pseudo-labels (motion)",
            second="pi0 + pseudo-labels (scene)",
        ),
    ),
    level=0.4,
    parts=(
        Part(role="labels", num=300, first_seed=3_000_000),
        Part(role="video", num=120, first_seed=3_100_000),
    ),
    conditions=(Condition(name="usual"),),
    seeds=(0, 1, 2),
    steps=300,
    batch_size=16,
    learning_rate=2e-3,
    trained_parameters=3_000_000,
    match=("samples", "steps", "parameters"),
    num_trials=40,
)

VIDEO_LOSS = Design(
    key="video-loss",
    title="P2. Video loss in training against imagined future at test",
    question="Is it the training signal or the imagination that helps?",
    routes=(
        Route(
            name="loss, no imagination",
            summary="Fast-WAM: video loss in training, acts on the present frame",
            recipe="fast_wam",
            phase="full",
            labels=(60,),
        ),
        Route(
            name="no loss, no imagination",
            summary="the same without the video loss",
            recipe="fast_wam",
            phase="full",
            losses=("action",),
            labels=(60,),
        ),
        Route(
            name="loss, imagination",
            summary="imagines with a tower that the video loss goes on training",
            recipe="fast_wam_idm",
            phase="full",
            labels=(60,),
        ),
        Route(
            name="no loss, imagination",
            summary="imagines with the tower that only the actions train",
            recipe="fast_wam_idm",
            phase="full",
            losses=("action",),
            labels=(60,),
        ),
        Route(
            name="current-frame loss, no imagination",
            summary="control: the video loss reconstructs the frame of now instead of the future (UWM)",
            recipe="fast_wam",
            phase="full",
            changes=(("stage.streams.video.codec.future_s", (0.0, 0.0, 0.0, 0.0)),),
            labels=(60,),
        ),
    ),
    contrasts=(
        Contrast(name="video loss, not imagining", first="loss, no imagination", second="no loss, no imagination"),
        Contrast(name="video loss, imagining", first="loss, imagination", second="no loss, imagination"),
        Contrast(name="imagining, with the loss", first="loss, imagination", second="loss, no imagination"),
        Contrast(name="imagining, without the loss", first="no loss, imagination", second="no loss, no imagination"),
        Contrast(
            name="future instead of current frame",
            first="loss, no imagination",
            second="current-frame loss, no imagination",
        ),
    ),
    crossings=(
        Crossing(
            name="video loss helps more when imagining",
            both="loss, imagination",
            only_first="loss, no imagination",
            only_second="no loss, imagination",
            neither="no loss, no imagination",
        ),
    ),
    parts=(Part(role="labels", num=60, first_seed=3_000_000),),
    conditions=(
        Condition(name="usual"),
        Condition(name="start pose", perturbation=Perturbation(start=1.0)),
    ),
    seeds=(0, 1, 2),
    steps=150,
    batch_size=8,
    learning_rate=1e-3,
    trained_parameters=0,
    match=("samples", "steps", "parameters"),
    num_trials=40,
)

GROUNDING = Design(
    key="grounding",
    title="P3. Grounding",
    question="Does it obey the words where the scene alone gives the instruction away?",
    routes=(
        Route(name="pi0", summary="VLA on labels that the scene predicts", recipe="pi0", labels=(100,)),
        Route(
            name="pi0 + counterfactual video (motion)",
            summary="also action-free video of other instructions, labelled by a model that sees only the hand",
            recipe="pi0",
            inverse="motion",
            labels=(100,),
        ),
        Route(
            name="pi0 + counterfactual video (scene)",
            summary="the same, labelled by a model that sees whole pictures",
            recipe="pi0",
            inverse="scene",
            labels=(100,),
        ),
        Route(
            name="fast_wam_idm", summary="WAM on labels that the scene predicts", recipe="fast_wam_idm", labels=(100,)
        ),
        Route(
            name="fast_wam_idm + counterfactual video (motion)",
            summary="also action-free video of other instructions, labelled by a model that sees only the hand",
            recipe="fast_wam_idm",
            inverse="motion",
            labels=(100,),
        ),
        Route(
            name="pi0, counterfactual labels",
            summary="ceiling: VLA with true labels of the counterfactual episodes",
            recipe="pi0",
            labels=(100,),
            ceiling=True,
        ),
    ),
    contrasts=(
        Contrast(name="counterfactual video, VLA (hand)", first="pi0 + counterfactual video (motion)", second="pi0"),
        Contrast(name="counterfactual video, VLA (scene)", first="pi0 + counterfactual video (scene)", second="pi0"),
        Contrast(
            name="counterfactual video, WAM (hand)",
            first="fast_wam_idm + counterfactual video (motion)",
            second="fast_wam_idm",
        ),
        Contrast(name="WAM instead of VLA", first="fast_wam_idm", second="pi0"),
        Contrast(
            name="seeing the hand instead of the scene",
            first="pi0 + counterfactual video (motion)",
            second="pi0 + counterfactual video (scene)",
        ),
        Contrast(
            name="true labels instead of the inverse model's",
            first="pi0, counterfactual labels",
            second="pi0 + counterfactual video (motion)",
        ),
    ),
    parts=(
        Part(role="labels", num=100, first_seed=3_200_000, pairing="leftmost"),
        Part(role="video", num=120, first_seed=3_300_000),
        Part(role="answers", num=120, first_seed=3_300_000),
    ),
    conditions=(
        Condition(name="seen pairing", pairing="leftmost"),
        Condition(name="swapped", pairing="leftmost", swapped=True),
    ),
    seeds=(0, 1, 2),
    steps=300,
    batch_size=16,
    learning_rate=2e-3,
    trained_parameters=3_000_000,
    match=("samples", "steps", "parameters"),
    num_trials=40,
)


def _forgetting() -> Design:
    """Flow alone, tokens alone, both, and both with the flow's gradient kept from the language model.

    All arms are the baseline without its subtask, so that none of them acts on words that it does not learn to write.
    """
    base = baseline_ki()
    edges = tuple(edge for edge in base.stage.edges if edge.src != "subtask" or edge.dst == "subtask")
    opened = tuple(replace(edge, grad=True) for edge in edges)
    flow = (base.stage.schedule[-1],)

    def arm(name: str, summary: str, losses: tuple[str, ...], *, phase: str = "full", **changes: object) -> Route:
        given = {"edges": edges, "schedule": flow, **changes}
        return Route(
            name=name,
            summary=summary,
            recipe="baseline_ki",
            phase=phase,
            losses=losses,
            changes=tuple((f"stage.{key}", value) for key, value in given.items()),
            labels=(100,),
        )

    both = ("fast", "action")
    insulated = arm("both, insulated", "the flow's gradient stops before the language model", both)
    return Design(
        key="forgetting",
        title="P4. Forgetting",
        question="What does learning to act cost a vision-language model of what it could say?",
        routes=(
            arm("flow only", "the flow trains the language model", ("action",), edges=opened),
            arm(
                "tokens only",
                "actions as tokens, which are also what is executed",
                ("fast",),
                phase="words",
                schedule=(Decode(stream="fast"),),
            ),
            arm("both", "tokens and flow both train the language model", both, edges=opened),
            insulated,
            replace(
                insulated,
                name="both, insulated, with questions",
                summary="a quarter of each batch are questions about the same pictures",
                losses=("subtask", *both),
                questions=0.25,
            ),
        ),
        contrasts=(
            Contrast(name="insulation", first="both, insulated", second="both"),
            Contrast(name="tokens beside the flow", first="both", second="flow only"),
            Contrast(name="flow beside the tokens", first="both", second="tokens only"),
            Contrast(name="questions", first="both, insulated, with questions", second="both, insulated"),
        ),
        parts=(
            Part(role="labels", num=100, first_seed=3_000_000),
            Part(role="questions", num=40, first_seed=3_400_000),
        ),
        conditions=(Condition(name="success"), Condition(name="answers", questions=200)),
        seeds=(0, 1, 2),
        steps=400,
        batch_size=8,
        learning_rate=5e-4,
        trained_parameters=0,
        match=("samples", "steps"),
        num_trials=40,
    )


FORGETTING = _forgetting()


def _smoke(design: Design) -> Design:
    """The same code in a minute: few episodes, few steps, one seed."""
    parts = tuple(replace(part, num=8 if part.role == "labels" else 4) for part in design.parts)
    conditions = tuple(replace(each, questions=min(each.questions, 8)) for each in design.conditions)
    small = {20: 4, 60: 6 if design.key == "labels" else 8, 100: 8, 300: 8}
    routes = tuple(replace(route, labels=tuple(small[num] for num in route.labels)) for route in design.routes)
    return replace(
        design,
        parts=parts,
        conditions=conditions,
        routes=routes,
        seeds=(0, 1),
        steps=12,
        batch_size=4,
        num_trials=4,
        window_stride=4,
    )


EVERY = (LABELS, VIDEO_LOSS, GROUNDING, FORGETTING)
DESIGNS: Mapping[str, Mapping[str, Design]] = {
    "laptop": {design.key: design for design in EVERY},
    "smoke": {design.key: _smoke(design) for design in EVERY},
}


def design_of(key: str, profile: str) -> Design:
    """The design of a key under a profile, or an error that suggests the nearest."""
    for where, name, known in (("profile", profile, DESIGNS), ("design", key, DESIGNS["laptop"])):
        if name not in known:
            raise InputError(where=where, expected="a known name", got=repr(name), do=nearest(name, known))
    return DESIGNS[profile][key]
