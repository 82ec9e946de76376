"""Sizes of Play-LMP, in the form of MCIL (mees/calvin, MIT), and of HULC (lukashermann/hulc, MIT)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.keypoints import PictureNetwork
from crossroads.codecs.percepts import Percepts
from crossroads.codecs.sentence import PooledSentences, SentenceTokens, WordMeans
from crossroads.codecs.steps import Steps
from crossroads.codecs.told_actions import ToldActions
from crossroads.mixtures import Logistics
from crossroads.plans import Categories, Distribution, Gaussian
from crossroads.recipes import nano
from crossroads.towers.playing import (
    AttentiveRecognition,
    GoalEncoder,
    PlanDecoder,
    PlanProposal,
    RecurrentRecognition,
)

FLOOR = 1e-4
"""The smallest deviation of a plan's numbers (``min_std``)."""
NANO_STEPS = Steps(num=4, apart_s=0.6, ahead=0)
CALVIN_CAMERAS, CALVIN_HZ, CALVIN_STATE = ("rgb_static", "rgb_gripper"), 30.0, 15
FELT = (0, 1, 2, 3, 4, 5, 6, 14)
"""Of CALVIN's state: the hand's pose, the gripper's width and its last command (``robot_no_joints``)."""


@dataclass(frozen=True, kw_only=True)
class PlaySize:
    """What differs between sizes, and between MCIL and HULC. ``kl_weight``: what the divergence costs, ``kl_balance``:
    see ``plans.KL``; ``by_picture``: the share of training samples whose goal is a picture, not words."""

    seen: Percepts
    words: SentenceTokens
    family: Distribution
    action: ToldActions
    goal: GoalEncoder
    proposal: PlanProposal
    recognition: RecurrentRecognition | AttentiveRecognition
    decoder: PlanDecoder
    kl_weight: float
    departs: tuple[str, ...]
    kl_balance: float | None = None
    by_picture: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Widths of the networks: of the goal, and of the hidden layers of each."""

    goal: int
    goal_hidden: int
    proposal: int
    decoder: int


def towers_of(
    widths: Widths, *, seen: Percepts, plan: int, norm: bool
) -> tuple[GoalEncoder, PlanProposal, PlanDecoder]:
    """The networks but for the posterior's; ``plan``: the numbers of a plan."""
    percept, num = seen.width, seen.steps.num
    return (
        GoalEncoder(width=widths.goal_hidden, goal_width=widths.goal, percept_width=percept, norm=norm),
        PlanProposal(width=widths.proposal, goal_width=widths.goal, percept_width=percept, num_steps=num),
        PlanDecoder(
            width=widths.decoder, plan_width=plan, goal_width=widths.goal, percept_width=percept, num_steps=num
        ),
    )


def told_once(source: PooledSentences | WordMeans, steps: Steps) -> SentenceTokens:
    """One token for the words, however many steps there are."""
    return SentenceTokens(source=source, steps=Steps(num=1, apart_s=steps.apart_s, ahead=0))


def nano_size(
    family: Distribution, law: Logistics, *, norm: bool, kl_weight: float, kl_balance: float | None, departs: str
) -> PlaySize:
    """Four steps of the embedded world. What is seen of a picture is as at published size, but for its last maps."""
    steps = NANO_STEPS
    network = PictureNetwork(image_hw=nano.IMAGE_HW, features=32, hidden=128, norm=norm)
    seen = Percepts(
        cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, networks=(network,), num_state=nano.NUM_STATE, steps=steps
    )
    widths = Widths(goal=16, goal_hidden=128, proposal=128, decoder=128)
    goal, proposal, decoder = towers_of(widths, seen=seen, plan=family.size, norm=norm)
    return PlaySize(
        seen=seen,
        words=told_once(WordMeans(vocabulary=nano.VOCABULARY, width=64), steps),
        family=family,
        action=ToldActions(
            num_actions=nano.NUM_ACTIONS,
            action_size=nano.ACTION_SIZE,
            control_hz=nano.CONTROL_HZ,
            steps=steps,
            law=law,
        ),
        goal=goal,
        proposal=proposal,
        recognition=RecurrentRecognition(width=128, percept_width=seen.width, num_steps=steps.num),
        decoder=decoder,
        kl_weight=kl_weight,
        kl_balance=kl_balance,
        departs=(
            departs,
            "At nano size words are embedded by what is learned here, and their mean is the sentence.",
            "At nano size one camera at 64 px and four steps 0.6 s apart, of which each tells 12 actions at once, 6 of "
            "them executed; published has a step and an action at each 1/30 s.",
            "Actions are scaled by their smallest and largest values; published takes those of the data set, which are "
            "so already.",
        ),
    )


def published_size(
    family: Distribution,
    law: Logistics,
    *,
    cameras: tuple[str, ...],
    steps: int,
    norm: bool,
    hand: tuple[int, int, int] | None,
    kl_weight: float,
    kl_balance: float | None,
) -> PlaySize:
    """CALVIN: pictures of 200 and 84 pixels, a hand told by its pose, 30 steps a second."""
    window = Steps(num=steps, apart_s=1 / CALVIN_HZ, ahead=0)
    networks = (
        PictureNetwork(image_hw=(200, 200), features=64, norm=norm),
        PictureNetwork(image_hw=(84, 84), features=64, keypoints=False, norm=norm),
    )
    seen = Percepts(
        cameras=cameras,
        image_hw=(200, 200),
        networks=networks[: len(cameras)],
        num_state=CALVIN_STATE,
        steps=window,
        felt=FELT,
    )
    widths = Widths(goal=32, goal_hidden=2048, proposal=2048, decoder=2048)
    goal, proposal, decoder = towers_of(widths, seen=seen, plan=family.size, norm=norm)
    minilm = PooledSentences(source="sentence-transformers/paraphrase-MiniLM-L3-v2", width=384)
    return PlaySize(
        seen=seen,
        words=told_once(minilm, window),
        family=family,
        action=ToldActions(
            num_actions=1,
            action_size=7,
            control_hz=CALVIN_HZ,
            steps=window,
            law=law,
            normaliser="none",
            num_state=CALVIN_STATE if hand else 0,
            hand=hand,
        ),
        goal=goal,
        proposal=proposal,
        recognition=RecurrentRecognition(width=4096, percept_width=seen.width, num_steps=steps),
        decoder=decoder,
        kl_weight=kl_weight,
        kl_balance=kl_balance,
        departs=(
            "Pictures of all cameras are stored at one size; those of the gripper's are made smaller for its network.",
            "The language model is loaded as transformers has it, frozen; the rest starts at random until it is "
            "imported.",
        ),
    )


NANO = nano_size(
    Gaussian(size=24, floor=FLOOR),
    Logistics(num=5),
    norm=False,
    kl_weight=1e-3,
    kl_balance=None,
    departs="At nano size a plan has 24 numbers (published 256) and an action's number 5 logistic parts (10).",
)
PUBLISHED = published_size(
    Gaussian(size=256, floor=FLOOR),
    Logistics(),
    cameras=CALVIN_CAMERAS[:1],
    steps=30,
    norm=False,
    hand=None,
    kl_weight=1e-3,
    kl_balance=None,
)


def attentive(size: PlaySize, *, width: int, mlp: int, heads: int, places: int) -> PlaySize:
    """A size with HULC's posterior, of two layers."""
    posterior = AttentiveRecognition(
        width=width,
        percept_width=size.seen.width,
        num_steps=size.seen.steps.num,
        mlp=mlp,
        heads=heads,
        depth=2,
        num_places=places,
    )
    return replace(size, recognition=posterior)


HULC_NANO = attentive(
    nano_size(
        Categories(num=8, classes=8),
        Logistics(num=5, bins=10, binary=1),
        norm=True,
        kl_weight=0.01,
        kl_balance=0.8,
        departs="At nano size a plan is 8 choices of 8 (published 32 of 32), and an action's number has 5 logistic "
        "parts (10). The decoder sees all that is seen (published: the gripper's camera alone), and actions are told "
        "in the frame of the world, in which the embedded gripper does not turn.",
    ),
    width=128,
    mlp=128,
    heads=4,
    places=NANO_STEPS.num,
)
_HULC = attentive(
    published_size(
        Categories(num=32, classes=32),
        Logistics(bins=10, binary=1),
        cameras=CALVIN_CAMERAS,
        steps=30,
        norm=True,
        hand=(3, 4, 5),
        kl_weight=0.01,
        kl_balance=0.8,
    ),
    width=4096,
    mlp=2048,
    heads=8,
    places=32,
)
HULC_PUBLISHED = replace(_HULC, decoder=replace(_HULC.decoder, first=64, last=128))
