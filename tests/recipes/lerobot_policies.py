"""Runs inside an environment that has LeRobot (0.6.1 or 0.4.4) and not crossroads: LeRobot's own policies at tiny size.

`make SPEC.json FOLDER` builds the policy that the spec describes with random weights, writes it with LeRobot's own
`save_pretrained` to FOLDER/release, and records one forward pass and one chunk on given noise in FOLDER/case, in the
format of the golden cases. `load RELEASE SPEC.json OUT` reads a folder with LeRobot's own `from_pretrained` and writes
the weights that it then has. `serve SPEC.json FOLDER` does what `make` does and then times `chunk NUM` and `step NUM`,
or weighs `chunk memory`, as it is asked on its standard input. What would be downloaded (configs, tokenizers,
pretrained backbones) is given here in its tiny form; sizes that LeRobot fixes in code are put in their place. Nothing
else of LeRobot's is changed. Called by test_lerobot_policies.py and benchmarks/vla.py.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

PI = ("pi0", "pi05", "pi0_fast")


def policy_of(spec: dict[str, Any], folder: Path) -> Any:
    """A new policy of LeRobot's. ``folder``: where a base model may be kept that LeRobot wants to read."""
    prepare(spec, folder)
    return class_of(spec)(config_of(spec, folder))


def class_of(spec: dict[str, Any]) -> Any:
    name, kind = {
        **{"pi0": ("pi0", "PI0Policy"), "pi05": ("pi05", "PI05Policy"), "pi0_fast": ("pi0_fast", "PI0FastPolicy")},
        **{"smolvla": ("smolvla", "SmolVLAPolicy"), "groot_n15": ("groot", "GrootPolicy")},
        **{"groot_n17": ("groot", "GrootPolicy")},
    }[spec["system"]]
    return getattr(importlib.import_module(f"lerobot.policies.{name}.modeling_{name}"), kind)


def config_of(spec: dict[str, Any], folder: Path) -> Any:
    """LeRobot's configuration of a policy."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    system, made = spec["system"], spec["constructor"]
    folder_of = "groot" if system.startswith("groot") else system
    module = importlib.import_module(f"lerobot.policies.{folder_of}.configuration_{folder_of}")
    num_actions = made.get("action_horizon", made.get("chunk_size", 4))
    action_size = made.get("action_dim", made.get("max_action_dim", 4))
    num_state = made.get("max_state_dim", action_size)
    pixels = made.get("siglip", made.get("vision_config", {})).get("image_size", 28)
    names = [f"observation.images.camera{number}" for number in range(spec["num_cameras"])]
    seen = {name: PolicyFeature(type=FeatureType.VISUAL, shape=(3, pixels, pixels)) for name in names}
    seen["observation.state"] = PolicyFeature(type=FeatureType.STATE, shape=(num_state,))
    acts = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(action_size,))}
    given = {"device": "cpu", "input_features": seen, "output_features": acts, "chunk_size": num_actions}
    given |= {"n_action_steps": num_actions, "max_state_dim": num_state, "max_action_dim": action_size}
    if system in PI:
        given |= {"image_resolution": (pixels, pixels), "dtype": "float32"}
        given |= {"max_action_tokens": made["decoding_steps"]} if system == "pi0_fast" else {}
        given |= {"num_inference_steps": spec["steps"]} if system != "pi0_fast" else {}
        return getattr(module, {"pi0": "PI0Config", "pi05": "PI05Config", "pi0_fast": "PI0FastConfig"}[system])(**given)
    if system == "smolvla":
        shared = (
            "num_vlm_layers",
            "attention_mode",
            "self_attn_every_n_layers",
            "expert_width_multiplier",
            "num_steps",
        )
        given |= {name: made[name] for name in shared} | {"resize_imgs_with_padding": (pixels, pixels)}
        return module.SmolVLAConfig(
            vlm_model_name="tiny", train_expert_only=False, freeze_vision_encoder=False, **given
        )
    config = module.GrootConfig(**given)
    config.base_model_path = str(folder / "base")
    return config


def refused(system: str) -> str:
    """Why this LeRobot cannot build a system offline; empty if it can."""
    if system in PI:
        modern = importlib.util.find_spec("lerobot.policies.pi_gemma")
        return "" if modern else "its pi policies need a fork of transformers that is no package"
    if system == "smolvla":
        return ""
    module = {"groot_n15": "groot_n1", "groot_n17": "groot_n1_7"}[system]
    return "" if importlib.util.find_spec(f"lerobot.policies.groot.{module}") else "it has another form of GR00T"


def prepare(spec: dict[str, Any], folder: Path) -> None:
    """What LeRobot would download, and sizes that it fixes in code."""
    system = spec["system"]
    if why := refused(system):
        sys.exit(f"refused: {why}")
    if system in PI:
        _tiny_pi(importlib.import_module(f"lerobot.policies.{system}.modeling_{system}"), spec["constructor"])
    elif system == "smolvla":
        _tiny_smolvla(importlib.import_module("lerobot.policies.smolvla.smolvlm_with_expert"), spec["constructor"])
    else:
        {"groot_n15": _tiny_n15, "groot_n17": _tiny_n17}[system](spec["constructor"], folder / "base")


def _tiny_pi(module: Any, made: dict[str, Any]) -> None:
    """PaliGemma's sizes stand in code, and pi0-FAST reads two tokenizers."""
    gemma = {"gemma_2b": made.get("gemma", made.get("vlm_gemma")), "gemma_300m": made.get("action_expert_gemma", {})}
    module.get_gemma_config = lambda variant: SimpleNamespace(**gemma[variant])
    whole, vision = module.PaliGemmaForConditionalGenerationWithPiGemma, made["siglip"]

    def tiny(config: Any) -> Any:
        config.image_token_index = config.image_token_id = config._vocab_size = made["vocab_size"] - 1
        config.text_config.vocab_size = made["vocab_size"]
        for name, value in vision.items():
            setattr(config.vision_config, name, value)
        config.projection_dim = vision["projection_dim"]
        return whole(config=config)

    module.PaliGemmaForConditionalGenerationWithPiGemma = tiny
    if hasattr(module, "PiGemmaForCausalLM"):
        expert = module.PiGemmaForCausalLM

        def with_few_words(config: Any) -> Any:
            config.vocab_size = made["vocab_size"]
            return expert(config=config)

        module.PiGemmaForCausalLM = with_few_words
    words = SimpleNamespace(bos_token_id=made.get("bos_token_id", 2), convert_tokens_to_ids=lambda _: -1)
    for name in ("AutoTokenizer", "AutoProcessor"):
        setattr(module, name, SimpleNamespace(from_pretrained=lambda *_, **__: words))


def _tiny_smolvla(module: Any, made: dict[str, Any]) -> None:
    """The configuration of SmolVLM2, and the processor of which only the numbers of two tokens are used."""
    from transformers import SmolVLMConfig

    text = dict(made["text_config"])
    text |= {
        "model_type": "llama",
        "rope_theta": float(text.pop("rope_max_wavelength")),
        "max_position_embeddings": 512,
    }
    given = {"vision_config": made["vision_config"], "scale_factor": made["connector_scale_factor"], "pad_token_id": 0}
    config = SmolVLMConfig(text_config=text, **given)
    marks = SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=0, global_image_token_id=1))
    module.AutoConfig = SimpleNamespace(from_pretrained=lambda *_, **__: copy.deepcopy(config))
    module.AutoProcessor = SimpleNamespace(from_pretrained=lambda *_, **__: marks)


def _tiny_n17(made: dict[str, Any], base: Path) -> None:
    """A tiny base release: the head, and a Qwen3-VL whose sizes LeRobot fixes in code."""
    from lerobot.policies.groot import groot_n1_7
    from transformers import Qwen3VLConfig

    width = made["backbone_embedding_dim"]
    text = {"hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 64, "tie_word_embeddings": True}
    text |= {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"}}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": width}
    vision |= {"patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    tiny = Qwen3VLConfig(text_config=text, vision_config=vision, image_token_id=60, video_token_id=61)
    groot_n1_7._cosmos_reason2_qwen3_vl_config = lambda: copy.deepcopy(tiny)
    if not base.exists():
        config = groot_n1_7.GR00TN17Config(**made, select_layer=1, attn_dropout=0.0)
        groot_n1_7.GR00TN17(config, load_backbone_weights=False).save_pretrained(base)


def _tiny_n15(made: dict[str, Any], base: Path) -> None:
    """A tiny base release: the head is LeRobot's; for Eagle 2.5, of which transformers has no class, stands one map."""
    from lerobot.policies.groot import groot_n1

    class Backbone(nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()
            self.eagle_linear = nn.Linear(8, made["backbone_embedding_dim"])

        def set_trainable_parameters(self, **_: Any) -> None:
            pass

    groot_n1.EagleBackbone = Backbone
    if not base.exists():
        config = groot_n1.GR00TN15Config(
            backbone_cfg={},
            action_head_cfg=made,
            action_horizon=made["action_horizon"],
            action_dim=made["action_dim"],
            compute_dtype="float32",
        )
        groot_n1.GR00TN15(config, local_model_path="").save_pretrained(base)


@torch.no_grad()
def shake(policy: nn.Module, seed: int) -> None:
    """Random weights, also where LeRobot starts from zero; what shares memory stays shared."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(drawn * (0.7 / parameter.shape[-1] ** 0.5))
        else:
            parameter.add_(0.1 * drawn)


def inputs_of(spec: dict[str, Any]) -> dict[str, Tensor]:
    """Random inputs of a forward pass and of a chunk, under the names of the golden cases."""
    made, batch = spec["constructor"], spec["batch"]
    generator = torch.Generator().manual_seed(spec["seed"] + 1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    if spec["system"].startswith("groot"):
        num_actions, action_size = made["action_horizon"], made.get("action_dim", made.get("max_action_dim"))
        valid = torch.ones(batch, spec["num_features"]).bool()
        valid[1:, -2:] = False
        return {
            "backbone_features": normal(spec["num_features"], made["backbone_embedding_dim"]),
            "backbone_attention_mask": valid,
            "image_mask": (torch.arange(spec["num_features"]) % 3 > 0).expand(batch, -1).contiguous(),
            "embodiment_id": torch.arange(batch) % made["max_num_embodiments"],
            "state": normal(1, made["max_state_dim"]),
            "actions": normal(num_actions, action_size),
            "action_mask": torch.ones(batch, num_actions, action_size),
        }
    vision, vocabulary = made.get("siglip", made.get("vision_config")), made.get("vocab_size")
    given: dict[str, Tensor] = {}
    for number in range(spec["num_cameras"]):
        given[f"image_{number}"] = normal(3, vision["image_size"], vision["image_size"]).clamp(-1, 1)
        given[f"image_mask_{number}"] = torch.ones(batch).bool()
    if spec["num_cameras"] > 1 and spec["masked"]:
        given[f"image_mask_{spec['num_cameras'] - 1}"][0] = False
    num_words = vocabulary or made["text_config"]["vocab_size"]
    given["tokens"] = torch.randint(3, num_words - 1, (batch, spec["num_tokens"]), generator=generator)
    given["token_mask"] = torch.ones(batch, spec["num_tokens"]).bool()
    if spec["masked"]:
        given["token_mask"][-1, -2:] = False
    if spec["system"] == "pi0_fast":
        given["action_tokens"] = torch.randint(3, num_words - 1, (batch, 6), generator=generator)
        given["action_tokens"][:, 0] = made["bos_token_id"]
        given["action_token_mask"] = torch.ones(batch, 6).bool()
        given["action_token_mask"][-1, -1] = False
        return given
    shape = (made.get("action_horizon", made.get("chunk_size")), made.get("action_dim", made.get("max_action_dim")))
    given |= {name: normal(*shape) for name in ("actions", "noise", "sample_noise")}
    given["state"] = normal(made.get("max_state_dim", shape[1]))
    given["time"] = 0.05 + 0.9 * torch.rand(batch, generator=generator)
    return given


def seen_of(given: dict[str, Tensor]) -> tuple[Any, ...]:
    """Pictures, words and their masks in the order of LeRobot's arguments."""
    cameras = range(sum(name.startswith("image_mask") for name in given))
    pictures = [given[f"image_{number}"] for number in cameras]
    return (pictures, [given[f"image_mask_{number}"] for number in cameras], given["tokens"], given["token_mask"])


def step(spec: dict[str, Any], policy: Any, given: dict[str, Tensor]) -> Tensor:
    """The loss of a forward pass: every entry of it (pi0, pi0.5, SmolVLA), else its mean."""
    if spec["system"] == "pi0_fast":
        return policy.model.forward(*seen_of(given), given["action_tokens"], given["action_token_mask"])["loss"]
    state = () if spec["system"] == "pi05" else (given["state"],)
    return policy.model.forward(*seen_of(given), *state, given["actions"], noise=given["noise"], time=given["time"])


@torch.no_grad()
def chunk(spec: dict[str, Any], policy: Any, given: dict[str, Tensor]) -> Tensor:
    """The actions that LeRobot settles from given noise, or the tokens that it writes."""
    if spec["system"] == "pi0_fast":
        return policy.model.sample_actions_fast(*seen_of(given))
    state = () if spec["system"] == "pi05" else (given["state"],)
    return policy.model.sample_actions(*seen_of(given), *state, noise=given["sample_noise"])


def head_of_groot(policy: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """GR00T's head draws its own noise: it is drawn once more from the same seed, to be recorded."""
    from transformers.feature_extraction_utils import BatchFeature

    head = policy._groot_model.action_head
    own = ("backbone_features", "backbone_attention_mask", "image_mask")

    def fed() -> tuple[Any, Any]:
        action = {name: given[name] for name in ("state", "embodiment_id", "action_mask")}
        return BatchFeature(data={name: given[name] for name in own}), BatchFeature(data=action)

    backbone, action = fed()
    action["action"] = given["actions"]
    time = torch.linspace(0.1, 0.9, len(given["state"]))
    head.sample_time = lambda *_, **__: time
    torch.manual_seed(5)
    given["noise"], given["time"] = torch.randn(given["actions"].shape), time
    torch.manual_seed(5)
    found = {"train_loss": head(backbone, action)["loss"]}
    torch.manual_seed(6)
    given["sample_noise"] = torch.randn(given["actions"].shape)
    torch.manual_seed(6)
    return found | {"sample_actions": head.get_action(*fed())["action_pred"]}


def statistics_beside(release: Path) -> None:
    """LeRobot keeps the data's statistics in tensors of their own beside the weights."""
    from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline

    one = NormalizerProcessorStep(
        features={"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(2,))},
        norm_map={FeatureType.STATE: NormalizationMode.MEAN_STD},
        stats={"observation.state": {"mean": torch.zeros(2), "std": torch.ones(2)}},
    )
    PolicyProcessorPipeline(steps=[one], name="policy_preprocessor").save_pretrained(release)


def make(spec_file: str, folder: str) -> tuple[Any, Any, dict[str, Tensor]]:
    spec, out = json.loads(Path(spec_file).read_text()), Path(folder)
    policy = policy_of(spec, out).eval().float()
    shake(policy, spec["seed"])
    policy.save_pretrained(out / "release")
    statistics_beside(out / "release")
    given = inputs_of(spec)
    with torch.no_grad():
        if spec["system"].startswith("groot"):
            found = head_of_groot(policy, given)
        else:
            loss = "loss" if spec["system"] == "pi0_fast" else "train_loss_per_element"
            acts = "greedy_tokens" if spec["system"] == "pi0_fast" else "sample_actions"
            found = {loss: step(spec, policy, given)}
            heard: list[Tensor] = []
            if spec["system"] != "pi0_fast":
                policy.model.action_out_proj.register_forward_hook(lambda _, __, output: heard.append(output))
            found[acts] = chunk(spec, policy, given)
            found |= {"sample_velocities": torch.stack(heard)} if heard else {}
    case = out / "case"
    case.mkdir()
    save_file({name: value.contiguous() for name, value in given.items()}, case / "inputs.safetensors")
    save_file({name: value.contiguous() for name, value in found.items()}, case / "outputs.safetensors")
    versions = {name: importlib.metadata.version(name) for name in ("lerobot", "transformers", "torch")}
    (case / "meta.json").write_text(json.dumps({**spec, "upstream": versions}))
    write_state(policy, out / "state.safetensors")
    return spec, policy, given


def serve(spec_file: str, folder: str) -> None:
    """Answer each line of the standard input by one of numbers: wall and processor seconds of calls, or bytes."""
    spec, policy, given = make(spec_file, folder)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-5)

    def learn() -> None:
        optimiser.zero_grad()
        step(spec, policy, given).mean().backward()
        optimiser.step()

    calls = {"chunk": lambda: chunk(spec, policy, given), "step": learn}
    print("@ready", json.dumps(sum(one.numel() for one in policy.parameters())), flush=True)
    for line in sys.stdin:
        what, num = line.split()
        answer = grown(calls[what]) if num == "memory" else timed(calls[what], int(num))
        print("@answer", json.dumps(answer), flush=True)


def timed(call: Any, num: int) -> list[tuple[float, float]]:
    """Wall and processor seconds of some calls."""
    found = []
    for _ in range(num):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return found


def grown(call: Any) -> int:
    """Bytes by which the resident memory of this process grows at most while it calls, looked at every millisecond."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what calls before left in the allocator goes back
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(peak, resident()) - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write_state(policy: nn.Module, file: Path) -> None:
    save_file({name: value.clone().contiguous() for name, value in policy.state_dict().items()}, file)


def load(release: str, spec_file: str, out: str) -> None:
    spec = json.loads(Path(spec_file).read_text())
    prepare(spec, Path(spec_file).parent)
    write_state(class_of(spec).from_pretrained(release), Path(out))


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    {"make": make, "load": load, "serve": serve}[command](*words)
