"""The systems that crossroads can hold against published code, and the one way to run a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crossroads.errors import InputError, nearest
from crossroads.parity import (
    act,
    avdc,
    beast_codec,
    being_h05,
    cosmos_block,
    cosmos_policy,
    diffusion_policy,
    dit4dit_head,
    dreamdojo_lam,
    dreamvla,
    dreamzero,
    fast_codec,
    fast_wam,
    genie_stmaskgit,
    genima,
    gigaworld,
    gr1,
    groot,
    jepa_predictor,
    knowledge_insulation,
    lapa,
    lingbot_va,
    mimic_video,
    molmoact2,
    motus,
    openvla_oft,
    pad,
    pi0,
    pi0_fast,
    play_lmp,
    r3m_losses,
    rtc,
    schedules,
    seer,
    smolvla,
    uva,
    uwm,
    vla_foundry,
    vla_jepa_head,
    voltron_vgen,
    vpp,
    wan_block,
    xvla,
)
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced

SYSTEMS: Mapping[str, Callable[[GoldenCase], Produced]] = {
    **dict.fromkeys(fast_wam.FORMS, fast_wam.run),
    **dict.fromkeys(groot.FORMS, groot.run),
    "act": act.run,
    "avdc": avdc.run,
    "beast_codec": beast_codec.run,
    "being_h05": being_h05.run,
    "cosmos_block": cosmos_block.run,
    "cosmos_policy": cosmos_policy.run,
    "diffusion_policy_transformer": diffusion_policy.run_transformer,
    "diffusion_policy_unet": diffusion_policy.run_unet,
    "dreamvla": dreamvla.run,
    "dreamdojo_lam": dreamdojo_lam.run,
    "dreamzero": dreamzero.run,
    "dit4dit_head": dit4dit_head.run,
    "fast_codec": fast_codec.run,
    "genima_controlnet": genima.run,
    "genie_stmaskgit": genie_stmaskgit.run,
    "gigaworld": gigaworld.run,
    "gr1": gr1.run,
    "knowledge_insulation": knowledge_insulation.run,
    "lapa": lapa.run,
    "lingbot_va": lingbot_va.run,
    "mimic_video_action_tower": mimic_video.run,
    "molmoact2": molmoact2.run,
    "motus": motus.run,
    "openvla_oft": openvla_oft.run,
    **dict.fromkeys(("pi0", "pi05"), pi0.run),
    "pad": pad.run,
    "pi0_fast": pi0_fast.run,
    **dict.fromkeys(("mcil", "hulc"), play_lmp.run),
    "r3m_losses": r3m_losses.run,
    "rtc": rtc.run,
    "schedules": schedules.run,
    "seer": seer.run,
    "smolvla": smolvla.run,
    "uva": uva.run,
    "uwm": uwm.run,
    "voltron_vgen": voltron_vgen.run,
    "vpp_denoiser": vpp.run_denoiser,
    "vpp_svd_tap": vpp.run_tap,
    "vpp_video_former": vpp.run_former,
    **dict.fromkeys(("vjepa2_ac", "vla_jepa"), jepa_predictor.run),
    "vla_foundry": vla_foundry.run,
    "vla_jepa_head": vla_jepa_head.run,
    "wan_block": wan_block.run,
    "xvla": xvla.run,
}


def run(case: GoldenCase) -> Produced:
    """What crossroads gives for a case; an ``InputError`` says why a case cannot be run."""
    if case.system not in SYSTEMS:
        raise InputError(
            where=f"{case.meta.where}.system",
            expected="a system that crossroads can run",
            got=repr(case.system),
            do=nearest(case.system, SYSTEMS),
        )
    if not case.outputs:
        raise InputError(where=case.outputs.where, expected="tensors", got="none", do="Record the case again.")
    try:
        return SYSTEMS[case.system](case)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        # A network that is built from meta.json and fed from inputs.safetensors fails only if the two do not agree.
        raise InputError(
            where=f"golden case {case.folder}",
            expected="sizes in meta.json, weights and inputs of one case",
            got=f"{type(error).__name__}: {error}",
            do="Check which file is of another case; this one cannot be run.",
        ) from error
