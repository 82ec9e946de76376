"""Being-H0.5's sizes: InternVL3.5-2B and an expert of Qwen3-0.6B's shape (arXiv 2601.12993; BeingBeyond/Being-H)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.intern_pictures import InternPictures
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama
from crossroads.towers.qwen import Qwen


@dataclass(frozen=True, kw_only=True)
class BeingH05Size:
    """What differs between sizes. ``backbone``: shipped weights that the language tower starts from."""

    image: Patches
    text: TextTokens
    state: StateToken
    action: ActionTokens
    language: Gemma
    expert: Gemma
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "There is no refinement by the distance of observed and action features (MPG), no training-time real-time "
    "chunking, no motion tokens of human hands, no routed layers in the expert and no adapter per robot; the released "
    "code has the first two as switches and the others not at all.",
    "The language model is trained by the actions alone, and always; published adds next-token prediction on texts, "
    "and can keep it frozen.",
    "Prompts are pictures, state and instruction; published has the turns of a chat, and marks around pictures and "
    "state.",
    "Images are not augmented in training.",
)
EXPERT = Llama(
    width=128, mlp=512, depth=nano.DEPTH, heads=nano.HEADS, kv_heads=nano.HEADS, head_dim=nano.HEAD_DIM, normed=True
)
NANO = BeingH05Size(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=replace(nano.STATE, hidden=(EXPERT.width,), activation="relu"),
    action=replace(nano.ACTION, level_in_codec=True, buckets=1000, hidden_out=(EXPERT.width,), activation="relu"),
    language=nano.LANGUAGE_TOWER,
    expert=EXPERT,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size the language model is nano-vlm, which has no norms of queries and keys and learned its words "
        "with pictures and prompt reading each other; here every token reads what came before it, as published.",
        "At nano size one camera, 12 actions, 5 denoising steps and the noise levels of all nano arms; actions and "
        "state have the robot's own size and are normalised; published has places for 200 numbers of any robot.",
    ),
)

PUBLISHED = BeingH05Size(  # LIBERO's training script
    image=InternPictures(  # InternViT-300M, its places drawn over 224 pixels once for all
        cameras=("agentview", "wrist"),
        image_hw=(224, 224),
        patch=14,
        depth=24,
        vision_width=1024,
        vision_mlp=4096,
        heads=16,
        places=16,
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="OpenGVLab/InternVL3_5-2B", size=151936, start=None, end=151645),
        max_tokens=64,
    ),
    state=StateToken(num_state=200, normaliser="none", hidden=(1024,), activation="relu"),
    action=ActionTokens(
        num_actions=16,
        action_size=200,
        control_hz=20.0,
        normaliser="none",
        level_in_codec=True,
        buckets=1000,
        hidden_out=(1024,),
        activation="relu",
    ),
    language=Qwen(width=2048, mlp=6144, depth=28, heads=16, kv_heads=8, head_dim=128, sections=(64, 0, 0), normed=True),
    expert=Qwen(width=1024, mlp=3072, depth=28, heads=16, kv_heads=8, head_dim=128, sections=(64, 0, 0), normed=True),
    action_flow=Flow(levels=BetaLevels(scale=1 / 0.999, offset=0.0)),
    denoising_steps=4,
    backbone=None,
    departs=(
        *DEPARTS,
        "Weights start at random.",
        "Actions and states arrive padded to the 200 numbers of the published places; the data must put them there. "
        "The loss counts the padding, which published leaves out.",
    ),
)
