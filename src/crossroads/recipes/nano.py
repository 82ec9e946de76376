"""The nano sizes that recipes share: vocabulary, geometry of the softmax, the one action expert, the observation.

Numbers only. The two backbones have the same depth and head geometry, so that one action expert specification fits
both: a comparison of backbones must not also compare experts.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.pixels import Patches
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import END, START, TextTokens, Vocabulary
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow, TokenCE
from crossroads.towers.gemma import Gemma
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

NUM_PLACES = 32
"""Bins per image axis in answers about places (PaliGemma has 1,024, arXiv 2407.07726)."""

ENGLISH = (
    "a above after against all and any are at away back ball beside bin black block blue button by can close cube "
    "cyan cylinder down drawer drop far first forward from front give go grasp green grey hand handle hit hover in "
    "inside into is it knob left lift lower middle move near next no nothing nudge object of off on onto open "
    "orange over pick pink place point press pull purple push pushing put raise reach red right robot set shove "
    "shut side slide slider sort sphere stack table tap task the them then there to top toward towards tray turn "
    "two up what where which white with yellow yes you "
    ", . ?"
)
"""The words of the embedded world; the order is part of the shipped weights."""
WORDS = (
    *ENGLISH.split(),
    *(f"<x{index}>" for index in range(NUM_PLACES)),
    *(f"<y{index}>" for index in range(NUM_PLACES)),
)
VOCABULARY = Vocabulary(words=WORDS)

DEPTH, HEADS, HEAD_DIM = 6, 4, 48
CAMERAS, IMAGE_HW = ("front",), (64, 64)
CONTROL_HZ, NUM_ACTIONS, ACTION_SIZE, NUM_STATE = 10.0, 12, 4, 4
FUTURE_S = (0.3, 0.6, 0.9, 1.2)
DENOISING_STEPS = 5

TEXT = TextTokens(vocabulary=VOCABULARY, max_tokens=48)
PROMPT = TextTokens(vocabulary=VOCABULARY, max_tokens=48)
ANSWER = TextTokens(vocabulary=VOCABULARY, max_tokens=32, answer=True)
IMAGE = Patches(cameras=CAMERAS, image_hw=IMAGE_HW, patch=8, depth=2, vision_width=192, vision_mlp=768, heads=4)
SMALL_IMAGE = Patches(cameras=CAMERAS, image_hw=IMAGE_HW, patch=8, depth=1, vision_width=96, vision_mlp=384, heads=4)
VIDEO = VideoLatents(cameras=CAMERAS, image_hw=IMAGE_HW, future_s=FUTURE_S, autoencoder=NanoAutoencoder())
STATE = StateToken(num_state=NUM_STATE)
ACTION = ActionTokens(num_actions=NUM_ACTIONS, action_size=ACTION_SIZE, control_hz=CONTROL_HZ)

TEXT_TOWER = Plain(width=128, mlp=512, depth=2, heads=4)
VIDEO_TOWER = Wan(
    width=192,
    mlp=768,
    depth=DEPTH,
    heads=HEADS,
    head_dim=HEAD_DIM,
    rotary=(16, 16, 16),
    frequency_width=64,
    context_width=TEXT_TOWER.width,
)
LANGUAGE_TOWER = Gemma(width=192, mlp=960, depth=DEPTH, heads=HEADS, kv_heads=HEADS, head_dim=HEAD_DIM)
EXPERT = Wan(
    width=128,
    mlp=512,
    depth=DEPTH,
    heads=HEADS,
    head_dim=HEAD_DIM,
    rotary=(HEAD_DIM,),
    frequency_width=64,
    modulated_head=False,
)

WIDE_EXPERT = replace(EXPERT, mlp=864)
"""The expert where no words are crossed: as many weights (4 % fewer) as `EXPERT` has with its reading of the words, so
that both sides of a comparison train the same number."""

ACTION_FLOW = Flow(levels=BetaLevels())
"""openpi's level sampler for every nano arm's actions: what differs between arms must not be the action's noise."""
NEXT_TOKEN = TokenCE(start_token=START, end_token=END)
