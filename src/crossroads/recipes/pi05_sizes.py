"""The sizes of pi0.5, and of the baseline that stands on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.prompt import PromptTokens
from crossroads.codecs.subtask import SubtaskTokens
from crossroads.objectives import Flow, TokenCE
from crossroads.recipes import nano
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.towers.gemma import Gemma


@dataclass(frozen=True, kw_only=True)
class Pi05Size:
    """What differs between sizes of pi0.5. ``subtask`` None: the actions follow from the prompt (openpi's release);
    ``most_written``: its tokens when acting (answers that are only learned may be longer). ``backbone``: shipped
    weights that the language tower starts from."""

    image: Patches
    text: PromptTokens
    subtask: SubtaskTokens | None
    most_written: int
    action: ActionTokens
    language: Gemma
    expert: Gemma
    next_token: TokenCE
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "A sample without a subtask of its own has the instruction for its subtask.",
    "The subtask is written anew at each call, not once in about a second, and follows the prompt's last words "
    "('Action:', as openpi has them); the paper does not print the words between the two.",
)
NANO_DEPARTS = (
    "At nano size one camera, 12 actions and 5 denoising steps instead of three, 50 and 10.",
    "At nano size there are as many key-value heads as query heads, not one.",
    "At nano size actions have the robot's own size; the loss counts no padded dimensions.",
    "At nano size text embeddings enter unscaled, beside image tokens of the same scale; numbers are spelt in "
    "bytes with commas between them.",
)
PROMPT = PromptTokens(  # the words of the world have no digits, which are spelt in bytes; so commas part the numbers
    vocabulary=nano.VOCABULARY, max_tokens=80, num_state=nano.NUM_STATE, separator=", "
)
VOCABULARY = replace(pi0_sizes.PUBLISHED.text.vocabulary, suffix=";\nAction: ")

NANO = Pi05Size(
    image=nano.IMAGE,
    text=PROMPT,
    subtask=SubtaskTokens(vocabulary=nano.VOCABULARY, max_tokens=32),
    most_written=12,
    action=replace(nano.ACTION, normaliser="quantile"),
    language=nano.LANGUAGE_TOWER,
    expert=replace(nano.LANGUAGE_TOWER, width=128, mlp=344, adaptive=True),  # as many weights as the arms share
    next_token=nano.NEXT_TOKEN,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        *NANO_DEPARTS,
        "At nano size both losses weigh the same.",
    ),
)

PUBLISHED = Pi05Size(
    image=pi0_sizes.PUBLISHED.image,
    text=PromptTokens(
        vocabulary=VOCABULARY,
        max_tokens=200,
        scaled=True,
        num_state=8,
    ),
    subtask=SubtaskTokens(vocabulary=VOCABULARY, max_tokens=128, scaled=True),
    most_written=32,
    action=ActionTokens(num_actions=50, action_size=32, control_hz=50.0, normaliser="quantile"),
    language=pi0_sizes.PUBLISHED.language,
    expert=Gemma(width=1024, mlp=4096, depth=18, heads=8, kv_heads=1, head_dim=256, adaptive=True),
    next_token=TokenCE(start_token=2, end_token=1),
    action_flow=replace(pi0_sizes.PUBLISHED.action_flow, weight=10.0),  # alpha of the paper's second stage
    denoising_steps=10,
    backbone=None,
    departs=(
        *DEPARTS,
        "Weights start at random until PaliGemma's or pi0.5's are imported (crossroads.recipes.names); openpi's "
        "release never learned to write subtasks (``subtask=None`` is what it serves).",
        "One phase learns words and flow together, as the paper's second stage does; its first, next tokens alone "
        "with actions as FAST tokens, is baseline_ki's, with the gradient cut that came later (arXiv 2505.23705).",
        "Actions arrive padded to 32 numbers; the data must pad them and must make joint actions relative to the first "
        "state, as openpi's data transforms do. The prompt holds the 8 numbers of a single arm's state.",
        "Every camera must be there; openpi shows a black image that nobody reads where one is missing.",
        "Images are not augmented in training.",
        "A prompt of more than 200 tokens is refused, not cut off with a warning.",
    ),
)
