"""The names of Being-H0.5's weights (BeingBeyond/Being-H, Apache-2.0) against ours."""

from __future__ import annotations

from crossroads.codecs.intern_pictures import InternPictures
from crossroads.recipes.names import Renamed, linear, weight_of
from crossroads.towers.qwen import Qwen

PICTURES = {"out": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}
DECODER = {
    **{part: f"self_attn.{part}_proj{{0}}" for part in "qkv"},
    **{"out": "self_attn.o_proj{0}", "norm_q": "self_attn.q_norm{0}", "norm_k": "self_attn.k_norm{0}"},
    **{part: f"mlp{{0}}.{part}_proj" for part in ("gate", "up", "down")},
    **{"norm_attention": "input_layernorm{0}", "norm_mlp": "post_attention_layernorm{0}"},
}
ENDS = {
    **{"state.enter.layers.0": "proprio_encoder_robot.layer1", "state.enter.layers.1": "proprio_encoder_robot.layer2"},
    **{"action.enter": "action_encoder.W1", "action.told_in": "action_encoder.W2"},
    **{"action.told_out": "action_encoder.W3", "action.leave.layers.0": "action_decoder.layer1"},
}


def being_h05_names(language: Qwen, image: InternPictures, *, tied: bool) -> tuple[Renamed, ...]:
    """``BeingH`` with its Qwen3 mixture of transformers: two towers of as many layers, the expert's weights ending in
    ``_mot_gen``. The published velocity points to the data."""
    text = [Renamed(ours="codecs.text.table.weight", theirs=("language_model.model.embed_tokens.weight",))]
    text += [] if tied else [weight_of("codecs.text.scores", "language_model.lm_head")]
    ends = [entry for ours, theirs in ENDS.items() for entry in linear(f"codecs.{ours}", theirs)]
    for entry in linear("codecs.action.leave.layers.1", "action_decoder.layer2"):
        ends.append(Renamed(ours=entry.ours, theirs=entry.theirs, negated=True))
    towers = []
    for tower, end in (("language", ""), ("expert", "_mot_gen")):
        towers.append(weight_of(f"towers.{tower}.frame.norm", f"language_model.model.norm{end}"))
        for layer in range(language.depth):
            for ours, theirs in DECODER.items():
                if language.normed or ours not in ("norm_q", "norm_k"):
                    there = f"language_model.model.layers.{layer}.{theirs.format(end)}"
                    towers.append(weight_of(f"towers.{tower}.layers.{layer}.{ours}", there))
    return (*text, *ends, *towers, *intern_names("codecs.image", image))


def intern_names(ours: str, image: InternPictures) -> tuple[Renamed, ...]:
    """``InternVisionModel`` and InternVL's connector; of its layers those that are run."""
    there = "vit_model.embeddings"
    found = [
        *linear(f"{ours}.enter", f"{there}.patch_embedding"),
        Renamed(ours=f"{ours}.class_token", theirs=(f"{there}.class_embedding",), shape="1 1 w -> 1 w"),
        Renamed(ours=f"{ours}.position", theirs=(f"{there}.position_embedding",), shape="1 n w -> n w"),
    ]
    for layer in range(image.depth):
        here, there = f"{ours}.layers.{layer}", f"vit_model.encoder.layers.{layer}"
        scales = tuple(f"{there}.ls{half}" for half in (1, 2))
        found.append(Renamed(ours=f"{here}.scales", theirs=scales, shape="w -> 1 w"))
        for norm, half in (("norm_attention", 1), ("norm_mlp", 2)):
            whole = linear(f"{here}.{norm}", f"{there}.norm{half}")
            found += whole[:1] if image.rms else whole
        whole = linear(f"{here}.qkv", f"{there}.attn.qkv")
        found += whole if image.biased else whole[:1]
        if image.normed:
            found += [weight_of(f"{here}.norm_{part}", f"{there}.attn.{part}_norm") for part in "qk"]
        for part, name in PICTURES.items():
            found += linear(f"{here}.{part}", f"{there}.{name}")
    for part, number in (("norm", 0), ("first", 1), ("second", 3)):
        found += linear(f"{ours}.{part}", f"connector.mlp1.{number}")
    return tuple(found)
