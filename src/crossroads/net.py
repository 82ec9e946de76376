"""StreamNet: codecs, towers and layout in one module; groups of tokens in, what each group leaves behind out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.codecs.banks import BankedLinear
from crossroads.codecs.spec import Codec, Latent
from crossroads.layout import Layout
from crossroads.noise import per_token
from crossroads.streams import Group
from crossroads.towers.attend import Attend
from crossroads.towers.joint import GroupInput, GroupState, Joint
from crossroads.towers.spec import Places
from crossroads.types import Batch, Observation


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
        """The codec of a group's stream (streams that share weights share the module)."""
        stream = self.layout.groups[group].stream
        return self.codecs[stream.shares or stream.name]  # pyright: ignore[reportReturnType]

    def own_codec(self, stream: str) -> Codec:
        """The codec of a stream by the stream's name."""
        return self.codec(next(name for name, group in self.layout.groups.items() if group.stream.name == stream))

    def address(self, robot: tuple[str, ...]) -> None:
        """Choose the weights of each sample's robot in every codec that keeps some per robot."""
        for module in self.codecs.modules():
            if isinstance(module, BankedLinear):
                module.address(robot)

    def observe(self, name: str, obs: Observation) -> Latent:
        """The latent of a ``now`` group."""
        return self.codec(name).observe(obs)

    def target(self, name: str, batch: Batch) -> Latent:
        """The latent that a learned stream must produce."""
        return self.codec(name).target(batch)

    def place(self, name: str, num_tokens: int, valid: Mapping[str, Bool[Tensor, "b n"]], offset: int = 0) -> Places:
        """Positions of a group's last ``num_tokens`` tokens, the first of them being token number ``offset``.

        The running index counts the valid tokens of the groups before it in ``sequence`` that it reads (pi0: padding
        and missing cameras consume no position), so it does not depend on groups that are absent or unread.
        """
        own = valid[name].long()
        index = own.cumsum(dim=1)[:, offset:] - 1
        if name in self.sequence:
            read = self.layout.needed([name])
            before = [other for other in self.sequence[: self.sequence.index(name)] if other in valid and other in read]
            index = index + sum(valid[other].long().sum(dim=1, keepdim=True) for other in before)
        grid = self.codec(name).grid(self.layout.groups[name].view.kind, offset + num_tokens)[offset:]
        return Places(index=index.clamp(min=0).float(), grid=grid.to(own.device))

    def embed(
        self,
        name: str,
        latent: Tensor,
        level: Float[Tensor, "b l"],
        valid: Mapping[str, Bool[Tensor, "b n"]],
        offset: int = 0,
    ) -> GroupInput:
        """A group's latent as placed tokens, at one level, one per block of equal size or one per token. ``valid``
        holds every present group's validity, its own included."""
        tokens = self.codec(name).embed(latent, per_token(level, latent.shape[1]))
        places = self.place(name, tokens.shape[1], valid, offset)
        return GroupInput(tokens=tokens, level=level, valid=valid[name][:, offset:], places=places)

    def forward(self, inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState]) -> dict[str, GroupState]:
        """Run the groups in ``inputs``, reading others from ``states``; returns the new states of the inputs."""
        known, inputs = dict(states), self._told(inputs)
        for joint in self.joints:
            known.update(joint.run(inputs, known))  # pyright: ignore[reportCallIssue]
        return {name: known[name] for name in inputs}

    def _told(self, inputs: Mapping[str, GroupInput]) -> Mapping[str, GroupInput]:
        """The inputs, with the level of another group where a view is told one; the two always run together, since
        each is read, or told, by the other (``Recipe.validate``)."""
        leaders = {name: self.layout.groups[name].view.told for name in inputs}
        return {
            name: replace(part, level=inputs[leader].level) if (leader := leaders[name]) is not None else part
            for name, part in inputs.items()
        }

    def group(self, name: str) -> Group:
        return self.layout.groups[name]

    def weight_names(self, towers: Iterable[str]) -> dict[str, str]:
        """Each weight and buffer of some towers and of their streams' codecs: its public name to its name in this
        module. Public names (``towers.video.layers.0.q.weight``, ``codecs.video.enter.weight``) do not depend on
        which towers share a softmax, so that a backbone's weights fit every recipe that uses the backbone."""
        wanted = set(towers)
        streams = {group.stream for group in self.layout.groups.values() if group.tower in wanted}
        prefixes = {f"codecs.{s.name}.": f"codecs.{s.name}." for s in streams if s.shares is None}
        for index, joint in enumerate(self.joints):
            assert isinstance(joint, Joint)
            for tower in wanted & set(joint.towers):
                prefixes[f"joints.{index}.frames.{tower}."] = f"towers.{tower}.frame."
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
