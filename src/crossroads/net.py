"""StreamNet: codecs, towers and layout in one module; groups of tokens in, what each group leaves behind out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crossroads.codecs.banks import BankedLinear
from crossroads.codecs.chunk_token import ChunkCodec
from crossroads.codecs.frame_features import FrameFeatureCodec
from crossroads.codecs.frame_latents import FrameLatentCodec
from crossroads.codecs.handed import HandedCodec
from crossroads.codecs.latents import LatentCodec
from crossroads.codecs.qwen_pictures import QwenPictureCodec
from crossroads.codecs.spec import Codec, Latent, ShownToOthers
from crossroads.codecs.stacked_latents import StackedCodec
from crossroads.codecs.target_pictures import TargetPictureCodec
from crossroads.layout import Layout
from crossroads.noise import per_token
from crossroads.space import Normaliser
from crossroads.streams import Group
from crossroads.towers.attend import Attend, Pass
from crossroads.towers.group import GroupInput, GroupState
from crossroads.towers.joint import Joint
from crossroads.towers.spec import Places
from crossroads.types import Batch, Observation

BESIDE = LatentCodec | StackedCodec | FrameLatentCodec | TargetPictureCodec
"""Codecs of which something may enter a tower beside what is denoised."""

MOST_TURNED = 2**20
"""Weights of the largest linear map that is worth turning (4 MiB; beyond it the cache holds no column)."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What the steps of a leg keep for each other, as they differ in nothing but latents and levels: the groups as the
    first step placed them, and what does not depend on their tokens of each joint's pass."""

    placed: dict[str, GroupInput] = field(default_factory=dict)
    passes: dict[nn.Module, Pass] = field(default_factory=dict)


class StreamNet(nn.Module):
    """One stage's network. ``sequence`` names the groups whose tokens share a running position index, in order."""

    def __init__(
        self, *, layout: Layout, sequence: tuple[str, ...], codecs: Mapping[str, nn.Module], joints: list[Joint]
    ) -> None:
        super().__init__()
        self.layout, self.sequence = layout, sequence
        self.codecs = nn.ModuleDict({name: codecs[name] for name in sorted(codecs)})
        self.joints = nn.ModuleList(joints)

    def attend_by(self, attend: Attend) -> None:
        """Choose how the softmax is computed (``Sdpa()``, ``Dense()``, ``Flex()``)."""
        for joint in self.joints:
            joint.attend = attend  # pyright: ignore[reportArgumentType]

    def codec(self, group: str) -> Codec:
        """The codec of a group's stream; streams that share all of it share the module."""
        stream = self.layout.groups[group].stream
        own = stream.shares is None or stream.name in self.codecs
        return self.codecs[stream.name if own else stream.shares]  # pyright: ignore[reportReturnType, reportArgumentType]

    def own_codec(self, stream: str) -> Codec:
        """The codec of a stream by the stream's name."""
        return self.codec(next(name for name, group in self.layout.groups.items() if group.stream.name == stream))

    def address(self, robot: tuple[str, ...]) -> None:
        """Choose the weights and the units of each sample's robot in every codec that keeps some per robot."""
        for module in self.codecs.modules():
            if isinstance(module, BankedLinear | Normaliser):
                module.address(robot)

    def observe(self, name: str, obs: Observation, states: Mapping[str, GroupState] = MappingProxyType({})) -> Latent:
        """The latent of a ``now`` group. ``states``: of groups that have been run before; of what is handed on from
        those, they say which tokens count, and nothing is looked at."""
        codec = self.codec(name)
        if isinstance(codec, HandedCodec) and states.keys() >= set(codec.spec.sources):
            return codec.placed(torch.cat([states[source].valid for source in codec.spec.sources], dim=1))
        return codec.observe(obs)

    def target(self, name: str, batch: Batch) -> Latent:
        """The latent that a learned stream must produce."""
        return self.codec(name).target(batch)

    def beside(self, name: str, obs: Observation, start: int, num: int) -> Tensor | None:
        """What enters beside ``num`` noised tokens from number ``start`` on; most codecs have nothing of the kind."""
        codec = self.codec(name)
        if isinstance(codec, FrameFeatureCodec | ChunkCodec):
            return codec.beside(obs)
        return codec.beside(obs.images, "noised", start, num) if isinstance(codec, BESIDE) else None

    def drawn_for(self, name: str, obs: Observation, latents: Mapping[str, Latent]) -> Observation:
        """What a group observes when acting: with the pictures of the settled groups that it is shown."""
        for source in sorted(self.layout.shown_to([name])):
            obs = obs.showing(self._shows(source).pictures(latents[source].values))
        return obs

    def recorded_for(self, name: str, batch: Batch, generator: torch.Generator) -> Observation:
        """What a group observes in training: with what was recorded in the place of those pictures."""
        obs = batch.obs
        for source in sorted(self.layout.shown_to([name])):
            obs = obs.showing(self._shows(source).recorded(batch, generator))
        return obs

    def _shows(self, name: str) -> ShownToOthers:
        codec = self.codec(name)
        assert isinstance(codec, ShownToOthers), f"{name} has no pictures: validate() should have refused the edge"
        return codec

    def place(
        self, name: str, num_tokens: int, valid: Mapping[str, Bool[Tensor, "b n"]], offset: int = 0, start: int = 0
    ) -> Places:
        """Positions of a group's last ``num_tokens`` tokens, behind ``offset`` that are there and ``start`` that are
        not.

        The running index counts the valid tokens of the groups before it in ``sequence`` that it reads (pi0: padding
        and missing cameras consume no position), so it does not depend on groups that are absent or unread. The tokens
        of one picture share its place where its codec says so (``strides``).
        """
        own = self._moved(name, valid[name])
        shared = isinstance(self.codec(name), QwenPictureCodec)
        index = own.cumsum(dim=1)[:, offset:] - (own[:, offset:] if shared else 1) + start
        if name in self.sequence:
            read = self.layout.beside(name)
            before = [other for other in self.sequence[: self.sequence.index(name)] if other in valid and other in read]
            index = index + sum(self._moved(other, valid[other]).sum(dim=1, keepdim=True) for other in before)
        first = start + offset
        grid = self.codec(name).grid(self.layout.groups[name].view.kind, first + num_tokens)[first:]
        return Places(index=index.clamp(min=0).float(), grid=grid.to(own.device))

    def _moved(self, name: str, valid: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """By how many places each token of a group moves the running index on."""
        codec = self.codec(name)
        if not isinstance(codec, QwenPictureCodec):
            return valid.long()
        return valid * codec.strides().to(valid.device).long()

    def embed(
        self,
        name: str,
        latent: Tensor,
        level: Float[Tensor, "b l"],
        valid: Mapping[str, Bool[Tensor, "b n"]],
        offset: int = 0,
        levels: Mapping[str, Float[Tensor, "b k"]] = MappingProxyType({}),
        steps: Steps | None = None,
    ) -> GroupInput:
        """A group's latent as placed tokens, at one level, one per block of equal size or one per token. ``valid``
        holds every present group's validity, its own included, and ``levels`` those of the groups that it hears.

        ``offset``: tokens of the group that come before these. They are cached, and then among ``valid``; or else they
        are not there at all, as the blocks behind the one that is being denoised. ``steps``: the same for all of a
        leg's steps."""
        codec, deep = self.codec(name), None
        if isinstance(codec, QwenPictureCodec):
            tokens, deep = codec.embed_deep(latent)
        else:
            tokens = codec.embed(latent, per_token(level, latent.shape[1]))
        heard = [levels[other][:, :1] for other in self.layout.heard(name)]
        new = {"tokens": tokens, "level": level, "heard": torch.cat(heard, dim=1) if heard else None, "deep": deep}
        if steps and name in steps.placed:
            return replace(steps.placed[name], **new)
        known = valid[name].shape[1] - tokens.shape[1]
        places = self.place(name, tokens.shape[1], valid, known, offset - known)
        found = GroupInput(valid=valid[name][:, known:], places=places, start=offset - known, **new)
        if steps:
            steps.placed[name] = found
        return found

    def forward(
        self,
        inputs: Mapping[str, GroupInput],
        states: Mapping[str, GroupState],
        steps: Steps | None = None,
        silent: frozenset[str] = frozenset(),
    ) -> dict[str, GroupState]:
        """Run the groups in ``inputs``, reading others from ``states``; returns the new states of the inputs.

        ``steps``: the same for all passes of a leg. ``silent``: groups whose final hidden states need not be there."""
        known = dict(states)
        for joint in self.joints:
            assert isinstance(joint, Joint)
            handed = self._handed(joint, inputs, known)
            known.update(joint.run(handed, known, steps.passes if steps else None, silent))
        return {name: known[name] for name in inputs}

    def _handed(
        self, joint: Joint, inputs: Mapping[str, GroupInput], known: Mapping[str, GroupState]
    ) -> Mapping[str, GroupInput]:
        """The inputs with the tokens that earlier towers hand on to those of one softmax."""
        found = dict(inputs)
        for name, given in inputs.items():
            codec = self.codec(name)
            if not isinstance(codec, HandedCodec) or self.layout.groups[name].tower not in joint.towers:
                continue
            cut = {edge.src for edge in self.layout.sources(name, "value") if not edge.grad}
            parts = []
            for source in codec.spec.sources:
                state = known[source]
                whole = torch.cat([*(state.taps[at] for at in codec.spec.taps), state.hidden], dim=-1)
                parts.append(whole.detach() if source in cut else whole)
            found[name] = replace(given, tokens=codec.handed(torch.cat(parts, dim=1), given.level))
        return found

    def turn_weights(self) -> None:
        """Lay the weights of linear maps column by column in memory, as a CPU multiplies few tokens by them fastest
        (``benchmarks/linear.py``; large maps stay as they are). Shapes, names and values remain. For acting alone:
        a training step gains nothing."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                weight = module.weight
                plain = weight.device.type == "cpu" and weight.dtype == torch.float32
                if plain and weight.numel() <= MOST_TURNED:
                    weight.data = weight.data.t().contiguous().t()

    def group(self, name: str) -> Group:
        return self.layout.groups[name]

    def weight_names(self, towers: Iterable[str]) -> dict[str, str]:
        """Each weight and buffer of some towers and of their streams' codecs: its public name to its name in this
        module. Public names (``towers.video.layers.0.q.weight``, ``codecs.video.enter.weight``) do not depend on
        which towers share a softmax, so that a backbone's weights fit every recipe that uses the backbone."""
        wanted = set(towers)
        streams = {group.stream for group in self.layout.groups.values() if group.tower in wanted}
        prefixes = {f"codecs.{s.name}.": f"codecs.{s.name}." for s in streams if s.name in self.codecs}
        for index, joint in enumerate(self.joints):
            assert isinstance(joint, Joint)
            for tower in wanted & set(joint.towers):
                prefixes[f"joints.{index}.frames.{tower}."] = f"towers.{tower}.frame."
                prefixes[f"joints.{index}.modulators.{tower}__"] = f"towers.{tower}.told_by."
                for layer in range(len(joint.layers)):
                    here = f"joints.{index}.layers.{layer}.blocks.{tower}."
                    prefixes[here] = f"towers.{tower}.layers.{layer}."
        found = {}
        for name in self.state_dict():
            for here, public in prefixes.items():
                if name.startswith(here):
                    found[public + name.removeprefix(here)] = name
        return found


def even_level(num: int, level: float, device: torch.device) -> Float[Tensor, "b 1"]:
    """One level for a whole group."""
    return torch.full((num, 1), level, device=device)
