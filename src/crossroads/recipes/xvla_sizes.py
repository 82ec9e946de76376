"""The sizes of X-VLA: nano, and X-VLA-0.9B as released (arXiv 2510.10274; LeRobot ``configuration_xvla.py``)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.florence import FlorencePictures, FlorenceViews
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.soft_actions import SoftActions, SoftPrompts
from crossroads.codecs.text import TextTokens
from crossroads.diffusion import Part, Straight
from crossroads.recipes import nano
from crossroads.towers.bart import Bart, Placed
from crossroads.towers.gemma import Gemma


@dataclass(frozen=True, kw_only=True)
class XvlaSize:
    """What differs between sizes.

    ``image`` and ``text`` go through ``language``; ``others``: further cameras, which do not (None: there are none);
    ``seen`` and ``seen_others``: what of both the transformer is handed; ``prompts``: each robot's own tokens there
    (None: it has none). ``process``: how actions are noised, and what of them counts how much.
    """

    image: Patches | FlorencePictures
    text: TextTokens
    language: Gemma | Bart
    others: FlorenceViews | None
    seen: HandedStates
    seen_others: HandedStates | None
    prompts: SoftPrompts | None
    action: SoftActions
    policy: Placed
    process: Straight
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


READ = ("image", "text")
NUM_READ = nano.IMAGE.num_tokens("now") + nano.PROMPT.max_tokens
NANO = XvlaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    language=nano.LANGUAGE_TOWER,
    others=None,
    seen=HandedStates(sources=READ, num=NUM_READ, state_width=nano.LANGUAGE_TOWER.width),
    seen_others=None,
    prompts=SoftPrompts(num=4),
    action=SoftActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        num_state=nano.NUM_STATE,
        waves=16,
        unseen=(3,),
    ),
    policy=Placed(width=128, mlp=512, depth=nano.DEPTH, heads=4, num_places=NUM_READ + nano.NUM_ACTIONS),
    process=Straight(),
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        "At nano size the vision-language model is nano-vlm, all of it read; one camera, so none goes past it; one "
        "robot, so no bank of weights per robot; 4 prompts, 12 actions and 5 denoising steps instead of 32, 32 and 10.",
        "At nano size all numbers of an action are normalised and count the same by their squared error, the gripper's "
        "as well, which the network does not see noised either.",
        "Tokens past the end of the instruction are not there; published reads them.",
        "The phase 'head' trains the whole transformer and its ends; published trains the prompts and ends of a new "
        "robot alone first.",
    ),
)

DOMAINS = {
    **{0: "bridge", 1: "rt1", 2: "calvin", 3: "libero", 4: "widowx_air", 5: "air_agilex_hq", 6: "robotwin2"},
    **{7: "robocasa_human", 8: "vlabench", 9: "agibot_challenge", 10: "air_agilex", 18: "airbot"},
}
ROBOTS = tuple(DOMAINS.get(number, f"domain_{number}") for number in range(30))
"""Whose weights are whose (LeRobot ``docs/source/xvla.mdx``)."""

GRIPPERS = (9, 19)
EE6D = (
    Part(columns=(0, 1, 2), weight=500.0),
    Part(columns=(10, 11, 12), weight=500.0),
    Part(columns=(3, 4, 5, 6, 7, 8), weight=10.0),
    Part(columns=(13, 14, 15, 16, 17, 18), weight=10.0),
    Part(columns=GRIPPERS, scored=True),
)
"""Two hands: place in metres, six numbers of rotation, gripper (``EE6DActionSpace``)."""
CAMERAS = ("image", "image2", "image3")
IMAGE = FlorencePictures(cameras=CAMERAS[:1])
WORDS = 64
PUBLISHED = XvlaSize(
    image=IMAGE,
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="facebook/bart-large", size=51289, start=0, end=2), max_tokens=WORDS
    ),
    language=Bart(width=1024, mlp=4096, depth=12, heads=16, num_places=4096),
    others=FlorenceViews(cameras=CAMERAS[1:]),
    seen=HandedStates(sources=READ, num=IMAGE.tokens_per_camera + WORDS, state_width=1024),
    seen_others=HandedStates(sources=("others",), num=2 * IMAGE.tokens_per_camera, state_width=1024),
    prompts=SoftPrompts(num=32, robots=ROBOTS),
    action=SoftActions(
        num_actions=32,
        action_size=20,
        control_hz=7.5,
        num_state=20,
        normaliser="none",
        robots=ROBOTS,
        unseen=GRIPPERS,
        scored=GRIPPERS,
    ),
    policy=Placed(width=1024, mlp=4096, depth=24, heads=16, num_places=512),
    process=Straight(parts=EE6D),
    denoising_steps=10,
    backbone=None,
    departs=(
        "Weights start at random until X-VLA's are imported; published starts from Florence-2-large.",
        "Tokens past the end of the instruction are not there; published pads to 64 tokens and reads the padding, so "
        "an instruction that is shorter gives other numbers than published.",
        "Actions and states arrive as 20 numbers of two hands (place, six of rotation, gripper); the data must make "
        "them, and choose 32 of the next four seconds. LeRobot pads states to 32 where a checkpoint says so.",
        "Every camera must be there; published reads zeros in place of a missing one.",
        "No dropout (published 0.1 in the transformer). The language model learns as fast as the rest (published a "
        "tenth). Images are not augmented.",
        "The phase 'head' trains the whole transformer and its ends; published trains the prompts and ends of a new "
        "robot alone first.",
    ),
)


def with_views(size: XvlaSize, num: int) -> XvlaSize:
    """The same with so many further cameras."""
    assert isinstance(size.image, FlorencePictures)
    if not num:
        return replace(size, others=None, seen_others=None)
    sizes = {name: value for name, value in vars(size.image).items() if name != "cameras"}
    others = FlorenceViews(cameras=tuple(f"other_{index}" for index in range(num)), **sizes)
    handed = HandedStates(
        sources=("others",), num=others.num_tokens("now"), state_width=others.width, robots=size.seen.robots
    )
    return replace(size, others=others, seen_others=handed)
