"""PaliGemma 1 and 2, Gemma 3 and SmolVLM made of our parts are transformers' own, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import vlm_twin
from einops import rearrange
from torch import Tensor

from crossroads.codecs.pixels import Patches, PooledPatchCodec, PooledPatches, ShuffledPatches
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.parity.recorded import embedded
from crossroads.recipes.names import exported, imported
from crossroads.recipes.vlm_names import vlm_names
from crossroads.streams import Edge, reads
from crossroads.towers.attend import Attend, Dense, Sdpa
from crossroads.towers.gemma import Gemma
from crossroads.towers.gemma3 import Gemma3, Gemma3Block, Gemma3Frame
from crossroads.towers.group import GroupInput
from crossroads.towers.llama import Llama
from crossroads.towers.spec import Places

transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")

PICTURE = 258
"""The piece that stands for a picture's tokens."""
PIXELS: dict[str, Any] = {"cameras": ("front",), "image_hw": (16, 16), "patch": 4, "depth": 2}
VISION: dict[str, Any] = {"vision_width": 12, "vision_mlp": 20, "heads": 2}
DECODER: dict[str, Any] = {"width": 16, "mlp": 24, "heads": 2, "kv_heads": 1, "head_dim": 8}
SCALED = replace(vlm_twin.TEXT, scaled=True)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A published model at tiny size. ``prefix``: pictures and words read each other (PaliGemma), the answer follows
    word by word; else all is causal but for a picture that reads itself (Gemma 3), or all (SmolVLM)."""

    image: Patches
    language: Gemma
    text: Any
    tower: str = "language_model"

    @property
    def names(self):
        return vlm_names(self.image, self.language, tower=self.tower)


GEMMA_1 = Kind(image=Patches(**PIXELS, **VISION), language=Gemma(**DECODER, depth=2), text=SCALED)
PALIGEMMA_2 = Kind(
    image=GEMMA_1.image,
    language=Gemma3(**DECODER, depth=3, whole_every=2, whole_theta=1e4, reach=99, scaled_by=5.0, cap=0.7),
    text=replace(SCALED, cap=0.9),
)
GEMMA_3 = Kind(
    image=PooledPatches(**PIXELS, **VISION, pool=2),
    language=Gemma3(**DECODER, depth=4, whole_every=3, reach=5, stretch=8.0, scaled_by=5.0, normed=True),
    text=SCALED,
)
SMOLVLM = Kind(
    image=ShuffledPatches(**PIXELS, **VISION, shuffle=2, scaled=False),
    language=Llama(**DECODER, depth=2, eps=1e-5),
    text=vlm_twin.TEXT,
    tower="text_model",
)
KINDS = {"paligemma": GEMMA_1, "paligemma2": PALIGEMMA_2, "gemma3": GEMMA_3, "smolvlm": SMOLVLM}


def texts(spec: Gemma) -> dict[str, Any]:
    """transformers' names of the sizes of a decoder."""
    found: dict[str, Any] = {
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "rms_norm_eps": spec.eps,
        "vocab_size": vlm_twin.TEXT.vocabulary.size,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
    if not isinstance(spec, Gemma3):
        return found | {"rope_parameters": {"rope_type": "default", "rope_theta": spec.theta}}
    found |= {
        "sliding_window": spec.reach,
        "query_pre_attn_scalar": int(spec.scaled_by),
        "layer_types": ["full_attention" if spec.whole(at) else "sliding_attention" for at in range(spec.depth)],
        "attn_logit_softcapping": spec.cap,
    }
    if not spec.normed:
        return found | {"rope_parameters": {"rope_type": "default", "rope_theta": spec.theta}}
    turns = {
        "sliding_attention": {"rope_type": "default", "rope_theta": spec.theta},
        "full_attention": {"rope_type": "linear", "factor": spec.stretch, "rope_theta": spec.whole_theta},
    }
    return found | {"rope_parameters": turns}


def visions(spec: Patches) -> dict[str, Any]:
    return {
        "hidden_size": spec.vision_width,
        "intermediate_size": spec.vision_mlp,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "image_size": spec.image_hw[0],
        "patch_size": spec.patch,
        "vision_use_head": False,
    }


def twin(kind: str) -> Any:
    """transformers' model of these sizes, with random weights."""
    torch.manual_seed(0)
    spec, told = KINDS[kind], texts(KINDS[kind].language)
    vision = visions(spec.image)
    if kind == "smolvlm":
        config = transformers.SmolVLMConfig(
            text_config={**told, "model_type": "llama"},
            vision_config=vision,
            scale_factor=2,
            image_token_id=PICTURE,
            tie_word_embeddings=True,
            pad_token_id=0,
        )
        model = transformers.SmolVLMForConditionalGeneration(config)
    elif kind == "gemma3":
        config = transformers.Gemma3Config(
            text_config=told, vision_config=vision, mm_tokens_per_image=4, image_token_id=PICTURE
        )
        model = transformers.Gemma3ForConditionalGeneration(config)
    else:
        second = {"final_logit_softcapping": spec.text.cap} if kind == "paligemma2" else {}
        config = transformers.PaliGemmaConfig(
            text_config={**told, **second, "model_type": "gemma2" if second else "gemma"},
            vision_config={**vision, "projection_dim": spec.language.width, "model_type": "siglip_vision_model"},
            image_token_index=PICTURE,
            projection_dim=spec.language.width,
        )
        model = transformers.PaliGemmaForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    vlm_twin.shaken(model)
    return model.eval()


def edges(kind: str, pictured: bool) -> tuple[Edge, ...]:
    """PaliGemma: pictures and prompt read each other. Gemma 3: a picture reads itself; SmolVLM: all is causal."""
    groups = ("image", "text") if pictured else ("text",)
    if kind.startswith("paligemma") and pictured:
        return tuple(edge for group in groups for edge in reads(group, *groups))
    found = vlm_twin.causal(*groups)
    return tuple(replace(e, when="all") if e.dst == e.src == "image" and kind == "gemma3" else e for e in found)


def answered(model: Any, kind: str, pictured: bool, latents: dict[str, Latent]) -> Tensor:
    """transformers' scores of the words."""
    ids, mask = latents["text"].values, latents["text"].valid.long()
    if not pictured:
        return model(input_ids=ids, attention_mask=mask).logits
    num = KINDS[kind].image.num_tokens("now")
    ids = torch.nn.functional.pad(ids, (num, 0), value=PICTURE)
    mask = torch.nn.functional.pad(mask, (num, 0), value=1)
    pixels = rearrange(latents["image"].values, "b 1 h w c -> b c h w") / 127.5 - 1
    more: dict[str, Any] = {"pixel_values": pixels}
    if kind == "smolvlm":
        more = {"pixel_values": rearrange(pixels, "b c h w -> b 1 c h w")}
    elif kind == "gemma3":
        more["token_type_ids"] = (ids == PICTURE).long()
    else:
        more["token_type_ids"] = torch.zeros_like(ids)
    return model(input_ids=ids, attention_mask=mask, **more).logits[:, num:]


def shown(image: Patches, batch: int) -> Latent:
    drawn = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (batch, 1, *image.image_hw, 3), generator=drawn, dtype=torch.uint8)
    return Latent(values=pixels, valid=torch.ones(batch, image.num_tokens("now")).bool())


def seen_by(kind: Kind) -> set[str]:
    """transformers' names of what belongs to pictures."""
    return {name for entry in kind.names if "codecs.image" in entry.ours for name in entry.theirs}


@pytest.mark.parametrize("padded", [0, 4])
@pytest.mark.parametrize("pictured", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_our_parts_are_the_published_model(kind: str, pictured: bool, padded: int) -> None:
    model, spec = twin(kind), KINDS[kind]
    names = spec.names if pictured else vlm_names(None, spec.language, tower=spec.tower)
    net = vlm_twin.alone(spec.image if pictured else None, spec.language, edges(kind, pictured), spec.text)
    left = (
        () if pictured else (n for n in model.state_dict() if "vision" in n or "multi_modal" in n or "connector" in n)
    )
    vlm_twin.load(net, names, model, "lm_head.weight", *left)
    given = {"text": vlm_twin.words(2, padded)} | ({"image": shown(spec.image, 2)} if pictured else {})
    found = vlm_twin.ours(net, given)
    wanted = vlm_twin.theirs(model, names, answered(model, kind, pictured, given), given["text"].valid)
    vlm_twin.equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_back_as_they_went_in(kind: str) -> None:
    given = twin(kind).state_dict()
    back = exported(KINDS[kind].names, imported(KINDS[kind].names, given))
    assert back.keys() == given.keys() - {"lm_head.weight"}
    assert all(torch.equal(back[name], given[name]) for name in back)


@pytest.mark.parametrize("adaptive", [True, False])
def test_weights_are_as_many_as_is_said(adaptive: bool) -> None:
    spec = replace(GEMMA_3.language, adaptive=adaptive)
    assert isinstance(spec, Gemma3)
    modules = (Gemma3Frame(spec), *(Gemma3Block(spec, layer) for layer in range(spec.depth)))
    assert spec.num_parameters() == sum(weight.numel() for part in modules for weight in part.parameters())
    image = GEMMA_3.image
    assert isinstance(image, PooledPatches)
    codec = PooledPatchCodec(image, spec.width)
    assert image.num_parameters(spec.width) == sum(weight.numel() for weight in codec.parameters())


def far(spec: Gemma3, attend: Attend, *, grown: bool = False) -> Tensor:
    """What the last word's state owes to each word."""
    net = vlm_twin.alone(None, spec, vlm_twin.causal("text"))
    net.attend_by(attend)
    given = vlm_twin.words(1, 0)
    (inputs,) = embedded(net, {"text": given}, {}, ["text"]).values()
    tokens = inputs.tokens.detach().requires_grad_()
    if not grown:
        hidden = net({"text": replace(inputs, tokens=tokens)}, {})["text"].hidden
    else:
        first = net({"text": cut_to(inputs, tokens, slice(0, 6))}, {})
        hidden = net({"text": cut_to(inputs, tokens, slice(6, 9))}, first)["text"].hidden
    (grad,) = torch.autograd.grad(hidden[0, -1].square().sum(), tokens)
    return grad[0].abs().amax(dim=-1)


def cut_to(inputs: GroupInput, tokens: Tensor, part: slice) -> GroupInput:
    places = Places(index=inputs.places.index[:, part], grid=inputs.places.grid[part])
    valid = inputs.valid[:, part]
    return replace(inputs, tokens=tokens[:, part], valid=valid, places=places, start=0)


def test_a_layer_looks_back_over_its_reach_and_every_so_many_th_all_the_way() -> None:
    torch.manual_seed(0)
    short = Gemma3(**DECODER, depth=2, whole_every=3, reach=3)  # both layers look back over two words and their own
    for attend in (Sdpa(), Dense()):
        assert (far(short, attend) > 0).tolist() == [False] * 4 + [True] * 5
        assert bool((far(replace(short, depth=3), attend) > 0).all())
    assert (far(short, Sdpa(), grown=True) > 0).tolist() == [False] * 4 + [True] * 5


def test_scores_are_bent_the_same_however_attention_is_computed_and_joined_towers_bend_alike() -> None:
    spec, found = replace(PALIGEMMA_2.language, cap=0.3), []
    for attend in (Sdpa(), Sdpa(max_waste=0.0), Dense()):
        torch.manual_seed(0)
        found.append(far(spec, attend))  # pyright: ignore[reportArgumentType]
    torch.manual_seed(0)
    free = far(replace(spec, cap=None), Sdpa())  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
    assert not torch.allclose(free, found[0])
    assert spec.geometry != replace(spec, cap=None).geometry


def test_a_reach_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="reach of at least one token"):
        replace(GEMMA_3.language, reach=0)
