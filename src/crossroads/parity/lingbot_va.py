"""LingBot-VA as recorded from the official network (Robbyant/lingbot-va) and LeRobot's port of training (Apache-2.0).

A case holds one teacher-forced pass over inputs that are noised already (``train.*``), the training mask at several
sizes (``mask.*``), and rounds of the server with its table of cached keys (``infer.*``). The recorded clip has no frame
of now apart, so the group ``video.now`` is not run: what we call frame 1 is the recorded frame 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.noise import level_from_timestep
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, by_group, embedded, hearing, joint_of, load_published, mask_between
from crossroads.recipes.lingbot_va import TURNS, lingbot_va
from crossroads.recipes.lingbot_va_names import UNUSED, lingbot_va_names
from crossroads.recipes.lingbot_va_sizes import PUBLISHED, LingBotVaSize
from crossroads.towers.given import Given
from crossroads.towers.group import GroupState
from crossroads.towers.wan import Wan

PATCH = 2  # the published default; no case says otherwise
SEQUENCE = ("video", "video.clean", "action", "action.clean")
"""The published order; each part holds all samples."""
RECORDED = {
    "video": "noisy_video",
    "video.clean": "clean_video",
    "action": "noisy_action",
    "action.clean": "clean_action",
}
TIMESTEPS = {
    **{"video": "timestep_video", "video.clean": "cond_timestep_video"},
    **{"action": "timestep_action", "action.clean": "cond_timestep_action"},
}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size = size_of(case)
    return Produced(outputs={**taught(case, size), **acted(case, size), **grids(size), **masks(case, size)})


def size_of(case: GoldenCase) -> LingBotVaSize:
    """The published size with the numbers of a recorded case; chunks and window are those of its training pass."""
    made, given, taught_by = case.meta["constructor"], case.inputs, case.meta["train"]
    made.demand({"patch_size": [1, PATCH, PATCH], "cross_attn_norm": True, "eps": 1e-6})
    made.demand({"out_channels": made["in_channels"]})
    _, channels, num_latents, rows, columns = given["noisy_video"].shape
    _, action_size, _, per_frame, _ = given["noisy_action"].shape
    scale, head = WanAutoencoder(source="recorded", channels=channels), made["attention_head_dim"]
    width = made["num_attention_heads"] * head
    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=made["text_dim"], max_tokens=given["text_emb"].shape[1]),
        text_tower=Given(width=made["text_dim"]),
        video=VideoLatents(
            cameras=("front",),
            image_hw=(rows * scale.space_factor, columns * scale.space_factor),
            future_s=tuple(float(step) for step in range(1, 1 + TIME_FACTOR * num_latents)),
            autoencoder=scale,
            patch=PATCH,
        ),
        video_tower=Wan(
            width=width,
            mlp=made["ffn_dim"],
            depth=made["num_layers"],
            heads=made["num_attention_heads"],
            head_dim=head,
            rotary=(head - 2 * (head // 3), head // 3, head // 3),
            frequency_width=made["freq_dim"],
            context_width=made["text_dim"],
        ),
        action=replace(
            PUBLISHED.action, num_actions=num_latents * per_frame, action_size=action_size, per_frame=per_frame
        ),
        frames_per_chunk=taught_by["chunk_size"],
        window=taught_by["window_size"],
    )


def network(case: GoldenCase, size: LingBotVaSize) -> StreamNet:
    """The shared trunk with the published weights."""
    net = build_net(lingbot_va(size).stage).eval()
    unused = frozenset(name for name in case.weights if re.fullmatch(UNUSED, name))
    load_published(net, lingbot_va_names(size), case.weights, unused=unused)
    return net


def tokens_of(recorded: Tensor, group: str) -> Float[Tensor, "b n c"]:
    """Recorded latent video or actions as our codecs hold them."""
    if group.startswith("action"):
        return rearrange(recorded, "b c f n 1 -> b (f n) c")
    return rearrange(recorded, "b c t (h p) (w q) -> b (t h w) (p q c)", p=PATCH, q=PATCH)


def answered(net: StreamNet, group: str, state: GroupState, num: int) -> Tensor:
    """The velocity of a group's last tokens as it is recorded: of a patch, place by place."""
    out = net.codec(group).read(state.hidden[:, -num:])
    return out if group.startswith("action") else rearrange(out, "b n (m c) -> b (n m) c", m=PATCH**2)


@torch.no_grad()
def taught(case: GoldenCase, size: LingBotVaSize) -> dict[str, Tensor]:
    """The teacher-forced pass."""
    net = network(case, size)
    values = {name: tokens_of(case.inputs[recorded], name) for name, recorded in RECORDED.items()}
    latents = {name: all_valid(tokens) for name, tokens in {**values, "text": case.inputs["text_emb"]}.items()}
    levels = {}
    for name, recorded in TIMESTEPS.items():
        told = level_from_timestep(case.inputs[recorded])
        levels[name] = repeat(told, "b f -> b (f n)", n=values[name].shape[1] // told.shape[1])
    inputs = embedded(net, latents, levels, latents)
    with hearing(joint_of(net, "video").layers[0]) as heard:
        states = net(inputs, {})
    out = by_group(net, inputs, "video", heard[0][0]["video"])
    return {
        "train.velocity_video_tokens": answered(net, "video", states["video"], values["video"].shape[1]),
        "train.velocity_action_tokens": answered(net, "action", states["action"], values["action"].shape[1]),
        "train.block0_out": torch.cat([rearrange(out[name], "b n w -> 1 (b n) w") for name in SEQUENCE], dim=1),
    }


@dataclass(kw_only=True)
class Slots:
    """The server's table of cached keys: what each slot holds, and which of our tokens that is."""

    valid: Bool[Tensor, " s"]
    number: Int[Tensor, " s"]
    imagined: Bool[Tensor, " s"]
    held: list[tuple[str, int]] = field(default_factory=list)

    @staticmethod
    def empty(num: int) -> Slots:
        none = torch.zeros(num, dtype=torch.bool)
        return Slots(valid=none, number=torch.full((num,), -1), imagined=none.clone(), held=[("", -1)] * num)

    def write(self, group: str, start: int, num: int, *, imagined: bool) -> Int[Tensor, " n"]:
        """Place the tokens of one call: they get the next number and, where none is free, the oldest ones' slots."""
        free = (~self.valid).nonzero().flatten()
        if len(free) < num:
            used = self.valid.nonzero().flatten()
            gone = used[self.number[used].argsort(stable=True)[: num - len(free)]]
            self.valid[gone], self.number[gone] = False, -1
            free = (~self.valid).nonzero().flatten()
        taken = free[:num]
        number = int(self.number[self.valid].max()) + 1 if self.valid.any() else 0
        self.valid[taken], self.number[taken], self.imagined[taken] = True, number, imagined
        for index, slot in enumerate(taken.tolist()):
            self.held[slot] = (group, start + index)
        return taken

    def there(self, group: str, num: int) -> Bool[Tensor, "1 n"]:
        """Which of the first tokens of a group still have a slot."""
        held = {token for token, valid in zip(self.held, self.valid.tolist(), strict=True) if valid}
        return torch.tensor([[(group, index) in held for index in range(num)]])

    def rows(self) -> Int[Tensor, "3 s"]:
        return torch.stack([self.valid.long(), self.number, self.imagined.long()])


@dataclass(kw_only=True)
class Server:
    """The server's network and all that it keeps from call to call."""

    net: StreamNet
    slots: Slots
    states: dict[str, GroupState]

    def call(
        self, group: str, values: Tensor, level: Tensor, start: int, *, keep: bool, imagined: bool = False
    ) -> Tensor:
        """One pass of some tokens over all that is kept; their own keys stay only where they are told to."""
        num = values.shape[1]
        taken = self.slots.write(group, start, num, imagined=imagined)
        kept = {name: self._still(name, state) for name, state in self.states.items()}
        valid = torch.ones(1, num, dtype=torch.bool)
        if group in kept:
            valid = torch.cat([kept[group].valid, valid], dim=1)
        tokens = self.net.embed(group, values, level.reshape(1, 1), {group: valid}, offset=start)
        new = self.net({group: tokens}, kept)[group]
        if keep:
            self.states[group] = new
        else:
            self.slots.valid[taken] = False
        return answered(self.net, group, new, num)

    def forget_imagined(self, before: dict[str, GroupState]) -> None:
        """Go back to the keys of what was observed."""
        self.slots.valid[self.slots.imagined] = False
        self.states = dict(before)

    def _still(self, name: str, state: GroupState) -> GroupState:
        return state if name == "text" else replace(state, valid=self.slots.there(name, state.valid.shape[1]))


@torch.no_grad()
def acted(case: GoldenCase, size: LingBotVaSize) -> dict[str, Tensor]:
    """The server's rounds: imagine a chunk of video, then its actions, then put what was observed in their place."""
    given, served = case.inputs, case.meta["infer"]
    # What is too old has lost its slot: no window beside that.
    size = replace(size, frames_per_chunk=served["frames_per_chunk"], window=None)
    net = network(case, size)
    text: dict[str, Latent] = {"text": all_valid(given["infer.text_emb"])}
    states = net(embedded(net, text, {}, text), {})
    server = Server(net=net, slots=Slots.empty(served["cache_slots"]), states=states)
    told = dict(zip(TURNS, level_from_timestep(given["infer.timesteps"]), strict=True))
    found: dict[str, Tensor] = {}
    clean = torch.zeros(1, dtype=torch.float64)
    number = 0
    while f"infer.r{number}.noisy_video" in given:
        here, before = f"infer.r{number}", dict(server.states)
        parts = {
            f"{kind}_{name}": tokens_of(given[f"{here}.{kind}_{name}"], name)
            for kind in ("noisy", "pred", "real")
            for name in TURNS
        }
        start = {name: number * parts[f"real_{name}"].shape[1] for name in TURNS}
        for name in TURNS:
            at = start[name]
            found[f"{here}.{name}"] = server.call(name, parts[f"noisy_{name}"], told[name], at, keep=False)
            server.call(f"{name}.clean", parts[f"pred_{name}"], clean, at, keep=True, imagined=True)
        found[f"{here}.slots_pred"] = server.slots.rows()
        server.forget_imagined(before)
        for name in TURNS:
            server.call(f"{name}.clean", parts[f"real_{name}"], clean, start[name], keep=True)
        found[f"{here}.slots_obs"] = server.slots.rows()
        number += 1
    return found


def grids(size: LingBotVaSize) -> dict[str, Tensor]:
    """Rotary places, counted from the recorded frame 0."""
    stage = lingbot_va(size).stage
    codecs = build_net(stage).codecs
    found = {}
    for name in ("video", "action"):
        places = codecs[name].grid("noised", stage.stream(name).codec.num_tokens("noised")).double()  # pyright: ignore[reportCallIssue]
        found[f"grid.{name}"] = (places - torch.tensor([1.0, 0.0, 0.0])).T
    return found


def masks(case: GoldenCase, size: LingBotVaSize) -> dict[str, Bool[Tensor, "q k"]]:
    """Who reads whom in the published sequence, from the recipe's edges at each recorded chunk and window."""
    batch = len(case.inputs["noisy_video"])
    num = {
        name: size.video.num_tokens("noised") if name.startswith("video") else size.action.num_actions
        for name in SEQUENCE
    }
    order = [(name, index) for name in SEQUENCE for _ in range(batch) for index in range(num[name])]
    sample = torch.tensor([row for name in SEQUENCE for row in range(batch) for _ in range(num[name])])
    found = {}
    for name in case.outputs:
        if asked := re.fullmatch(r"mask\.K(\d+)_window(\d+)", name):
            chunk, window = (int(number) for number in asked.groups())
            layout = lingbot_va(replace(size, frames_per_chunk=chunk, window=window)).stage.layout
            found[name] = mask_between(layout, num, order) & (sample[:, None] == sample[None, :])
    return found
