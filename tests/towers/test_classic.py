"""The classic tower against torch's own layers, where nothing stands anywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossroads.towers.classic import Classic, ClassicBlock, ClassicCondition
from crossroads.towers.spec import Context

NUM, READ = 3, 5


def copied(block: ClassicBlock, twin: nn.Module) -> None:
    """Torch's weights in our layer."""
    pairs = {"self_attn.in_proj_": "qkv.", "multihead_attn.in_proj_": "cross_qkv.", "self_attn.out_proj.": "out."}
    pairs |= {"multihead_attn.out_proj.": "cross_out.", "linear1.": "up.", "linear2.": "down."}
    norms = ["norm_attention", "norm_cross", "norm_mlp"] if block.spec.context_width else ["norm_attention", "norm_mlp"]
    pairs |= {f"norm{number}.": f"{norm}." for number, norm in enumerate(norms, start=1)}
    state = {}
    for name, tensor in twin.state_dict().items():
        there = next(theirs for theirs in pairs if name.startswith(theirs))
        state[name.replace(there, pairs[there])] = tensor
    block.load_state_dict(state)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@torch.no_grad()
def test_a_layer_is_torchs(across: bool, norm_first: bool) -> None:
    torch.manual_seed(0)
    kind = nn.TransformerDecoderLayer if across else nn.TransformerEncoderLayer
    twin = kind(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first).eval()
    spec = Classic(width=8, mlp=12, depth=1, heads=2, context_width=8 if across else 0, norm_first=norm_first)
    block = ClassicBlock(spec)
    copied(block, twin)
    x, read = torch.randn(2, NUM, 8), torch.randn(2, READ, 8)
    valid = torch.ones(2, READ, dtype=torch.bool)
    valid[0, -2:] = False
    context = Context(hidden=read, valid=valid) if across else None
    condition = ClassicCondition(where=torch.zeros(2, NUM, 8), context=context)
    qkv, carry = block.before(x, condition)
    q, k, v = (part.transpose(1, 2) for part in (qkv.q, qkv.k, qkv.v))
    attended = nn.functional.scaled_dot_product_attention(q, k, v)
    ours = block.after(x, attended.transpose(1, 2).flatten(2), carry, condition)
    theirs = twin(x, read, memory_key_padding_mask=~valid) if across else twin(x)
    torch.testing.assert_close(ours, theirs)
