"""Names of Play-LMP's weights in mees/calvin (MIT) and in lukashermann/hulc (MIT) against ours."""

from __future__ import annotations

from crossroads.codecs.keypoints import CONVOLUTIONS, PictureNetwork
from crossroads.recipes.names import Renamed, linear
from crossroads.recipes.play_lmp_sizes import PlaySize
from crossroads.towers.playing import AttentiveRecognition, RecurrentRecognition

ENCODERS = ("perceptual_encoder.vision_static_encoder", "perceptual_encoder.vision_gripper_encoder")


def play_lmp_names(size: PlaySize, *, apart: bool) -> tuple[Renamed, ...]:
    """Everything. ``apart``: means and deviations of a plan have a map each (mees/calvin; HULC has one for both)."""
    told = ("mean_fc", "variance_fc") if apart else ("fc_state.0",)
    sides = linear("codecs.action.sides", "action_decoder.gripper_fc") if size.action.law.binary else ()
    return (
        *(
            name
            for index, (network, encoder) in enumerate(zip(size.seen.networks, ENCODERS, strict=False))
            for name in picture_names(network, f"codecs.seen.networks.{index}.", f"{encoder}.")
        ),
        *_goal_names(size),
        *(
            name
            for layer in range(4)
            for name in linear(f"towers.proposal.frame.layers.{layer}", f"plan_proposal.fc_model.{2 * layer}")
        ),
        *linear("codecs.proposed.leave", *(f"plan_proposal.{part}" for part in told)),
        *_recognition_names(size.recognition),
        *linear("codecs.recognised.leave", *(f"plan_recognition.{part}" for part in told)),
        *_decoder_names(size),
        *linear("codecs.action.leave", *(f"action_decoder.{part}" for part in ("prob_fc", "log_scale_fc", "mean_fc"))),
        *sides,
    )


def picture_names(network: PictureNetwork, ours: str, theirs: str) -> tuple[Renamed, ...]:
    """A picture network's."""
    names = [
        name
        for index in range(len(CONVOLUTIONS))
        for name in linear(f"{ours}convolutions.{index}", f"{theirs}conv_model.{2 * index}")
    ]
    maps = ("fc1.0", "fc2") if network.keypoints else ("conv_model.7", "fc1.0", "fc2")
    for index, part in enumerate(maps):
        names += linear(f"{ours}maps.{index}", f"{theirs}{part}")
    if network.keypoints and network.temperature is None:
        names.append(Renamed(ours=f"{ours}temperature", theirs=(f"{theirs}spatial_softmax.temperature",)))
    if network.norm:
        names += linear(f"{ours}norm", f"{theirs}ln")
    return tuple(names)


def _goal_names(size: PlaySize) -> tuple[Renamed, ...]:
    frame = "towers.goal.frame"
    norms = (
        (*linear(f"{frame}.norms.picture", "visual_goal.ln"), *linear(f"{frame}.norms.words", "language_goal.ln"))
        if size.goal.norm
        else ()
    )
    return (
        *(name for i in range(3) for name in linear(f"{frame}.picture.{i}", f"visual_goal.mlp.{2 * i}")),
        *linear("codecs.goal.enter", "language_goal.mlp.1"),
        *(name for i in range(2) for name in linear(f"{frame}.words.{i}", f"language_goal.mlp.{2 * i + 3}")),
        *norms,
    )


def _recognition_names(spec: RecurrentRecognition | AttentiveRecognition) -> tuple[Renamed, ...]:
    frame, theirs = "towers.recognition.frame", "plan_recognition"
    if isinstance(spec, RecurrentRecognition):
        return tuple(
            name
            for layer in range(spec.depth)
            for way, suffix in enumerate(("", "_reverse"))
            for name in _cell(f"{frame}.cells.layers.{layer}.{way}", f"{theirs}.birnn_model", f"l{layer}{suffix}")
        )
    names = [] if not spec.num_places else [_same(f"{frame}.places", f"{theirs}.position_embeddings.weight")]
    for layer in range(spec.depth):
        ours, there = f"{frame}.layers.{layer}", f"{theirs}.transformer_encoder.layers.{layer}"
        names += [_same(f"{ours}.qkv.{kind}", f"{there}.self_attn.in_proj_{kind}") for kind in ("weight", "bias")]
        parts = {"out": "self_attn.out_proj", "up": "linear1", "down": "linear2"}
        for part, other in {**parts, "norm_attention": "norm1", "norm_mlp": "norm2"}.items():
            names += linear(f"{ours}.{part}", f"{there}.{other}")
    names += linear(f"{frame}.norm_first", f"{theirs}.layernorm") if spec.norm_first else ()
    names += linear(f"{frame}.norm_last", f"{theirs}.transformer_encoder.norm") if spec.norm_last else ()
    return (*names, *linear(f"{frame}.leave", f"{theirs}.fc"))


def _decoder_names(size: PlaySize) -> tuple[Renamed, ...]:
    cells, theirs = "towers.decoder.frame.cells", "action_decoder.rnn"
    if size.decoder.cell is None:
        return tuple(name for i in range(3) for name in linear(f"{cells}.layers.{i}", f"{theirs}.{2 * i}"))
    return tuple(
        name for layer in range(size.decoder.depth) for name in _cell(f"{cells}.layers.{layer}.0", theirs, f"l{layer}")
    )


def _cell(ours: str, theirs: str, suffix: str) -> tuple[Renamed, ...]:
    """One layer of torch's recurrent networks in one direction."""
    return tuple(
        _same(f"{ours}.{part}.{kind}", f"{theirs}.{kind}_{short}_{suffix}")
        for part, short in (("enter", "ih"), ("again", "hh"))
        for kind in ("weight", "bias")
    )


def _same(ours: str, theirs: str) -> Renamed:
    return Renamed(ours=ours, theirs=(theirs,))
