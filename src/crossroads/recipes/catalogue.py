"""Every recipe by name; dictionary literals, so that what exists can be read in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from crossroads.errors import InputError, nearest
from crossroads.recipe import Recipe
from crossroads.recipes import act as act_sizes
from crossroads.recipes import baseline_ki as baseline_ki_sizes
from crossroads.recipes import (
    being_h05_sizes,
    being_h07_sizes,
    cosmos_policy_sizes,
    diffusion_policy_sizes,
    dit4dit_sizes,
    dreamvla_sizes,
    dreamzero_sizes,
    fast_wam_sizes,
    genie_lam_sizes,
    genima_sizes,
    groot_sizes,
    lapa_sizes,
    lingbot_va_sizes,
    mimic_video_sizes,
    molmoact2_sizes,
    motus_sizes,
    pad_sizes,
    pi05_sizes,
    play_lmp_sizes,
    unipi_sizes,
    uva_sizes,
    uwm_sizes,
    vjepa2_ac_sizes,
    vla_foundry_sizes,
    vla_jepa_sizes,
    vpp_sizes,
    xvla_sizes,
)
from crossroads.recipes import frozen_cloning as frozen_cloning_sizes
from crossroads.recipes import gigaworld as gigaworld_sizes
from crossroads.recipes import gr1 as gr1_sizes
from crossroads.recipes import openvla as openvla_sizes
from crossroads.recipes import openvla_oft as openvla_oft_sizes
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.recipes import pi0_fast as pi0_fast_sizes
from crossroads.recipes import seer as seer_sizes
from crossroads.recipes import smolvla as smolvla_sizes
from crossroads.recipes import vlm2vla as vlm2vla_sizes
from crossroads.recipes.act import act
from crossroads.recipes.baseline_ki import baseline_ki
from crossroads.recipes.being_h05 import being_h05
from crossroads.recipes.being_h07 import being_h07
from crossroads.recipes.cloning import cloning
from crossroads.recipes.cosmos_policy import cosmos_policy, cosmos_policy_planning
from crossroads.recipes.diffusion_policy import diffusion_policy, diffusion_policy_transformer
from crossroads.recipes.dit4dit import dit4dit
from crossroads.recipes.dreamvla import dreamvla
from crossroads.recipes.dreamzero import dreamzero, dreamzero_flash
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.frozen_cloning import frozen_cloning
from crossroads.recipes.genie_lam import genie_lam
from crossroads.recipes.genima import genima
from crossroads.recipes.gigaworld import gigaworld_policy
from crossroads.recipes.gr1 import gr1
from crossroads.recipes.groot_n1 import groot_n15, groot_n17
from crossroads.recipes.hulc import hulc
from crossroads.recipes.inverse import inverse_motion, inverse_scene
from crossroads.recipes.lapa import lapa
from crossroads.recipes.lingbot_va import lingbot_va, lingbot_va_towers
from crossroads.recipes.mimic_video import mimic_video
from crossroads.recipes.molmoact2 import molmoact2
from crossroads.recipes.motus import motus
from crossroads.recipes.nano_video import nano_video
from crossroads.recipes.nano_vlm import nano_vlm
from crossroads.recipes.openvla import openvla
from crossroads.recipes.openvla_oft import openvla_oft
from crossroads.recipes.pad import pad
from crossroads.recipes.pi0 import pi0
from crossroads.recipes.pi0_fast import pi0_fast
from crossroads.recipes.pi0_vlms import GEMMA3_4B, QWEN3_VL_2B, pi0_gemma3, pi0_qwen3
from crossroads.recipes.pi05 import pi05
from crossroads.recipes.play_lmp import play_lmp
from crossroads.recipes.seer import seer, seer_auxiliary
from crossroads.recipes.smolvla import smolvla
from crossroads.recipes.unipi import unipi
from crossroads.recipes.uva import uva
from crossroads.recipes.uwm import uwm, uwm_current
from crossroads.recipes.vjepa2_ac import vjepa2_ac
from crossroads.recipes.vla_foundry import vla_foundry
from crossroads.recipes.vla_jepa import vla_jepa
from crossroads.recipes.vlm2vla import vlm2vla
from crossroads.recipes.vpp import vpp
from crossroads.recipes.xvla import xvla

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "act": act,
    "baseline_ki": baseline_ki,
    "being_h05": being_h05,
    "being_h07": being_h07,
    "cloning": cloning,
    "cosmos_policy": cosmos_policy,
    "cosmos_policy_planning": cosmos_policy_planning,
    "diffusion_policy": diffusion_policy,
    "diffusion_policy_transformer": diffusion_policy_transformer,
    "dreamvla": dreamvla,
    "dreamzero": dreamzero,
    "dreamzero_flash": dreamzero_flash,
    "dit4dit": dit4dit,
    "fast_wam": fast_wam,
    "fast_wam_idm": fast_wam_idm,
    "fast_wam_joint": fast_wam_joint,
    "frozen_cloning": frozen_cloning,
    "genie_lam": genie_lam,
    "genima": genima,
    "gigaworld_policy": gigaworld_policy,
    "gr1": gr1,
    "groot_n15": groot_n15,
    "groot_n17": groot_n17,
    "hulc": hulc,
    "inverse_motion": inverse_motion,
    "inverse_scene": inverse_scene,
    "lapa": lapa,
    "lingbot_va": lingbot_va,
    "lingbot_va_towers": lingbot_va_towers,
    "mimic_video": mimic_video,
    "molmoact2": molmoact2,
    "motus": motus,
    "nano_video": nano_video,
    "nano_vlm": nano_vlm,
    "openvla": openvla,
    "openvla_oft": openvla_oft,
    "pad": pad,
    "pi0": pi0,
    "pi05": pi05,
    "pi0_fast": pi0_fast,
    "pi0_gemma3": pi0_gemma3,
    "pi0_qwen3": pi0_qwen3,
    "play_lmp": play_lmp,
    "seer": seer,
    "seer_auxiliary": seer_auxiliary,
    "smolvla": smolvla,
    "vjepa2_ac": vjepa2_ac,
    "vla_foundry": vla_foundry,
    "vla_jepa": vla_jepa,
    "unipi": unipi,
    "uva": uva,
    "uwm": uwm,
    "uwm_current": uwm_current,
    "vlm2vla": vlm2vla,
    "vpp": vpp,
    "xvla": xvla,
}
"""At nano size."""

PUBLISHED: Mapping[str, Callable[[], Recipe]] = {
    "act": partial(act, act_sizes.PUBLISHED),
    "baseline_ki": partial(baseline_ki, baseline_ki_sizes.PUBLISHED),
    "being_h05": partial(being_h05, being_h05_sizes.PUBLISHED),
    "being_h07": partial(being_h07, being_h07_sizes.PUBLISHED),
    "cosmos_policy": partial(cosmos_policy, cosmos_policy_sizes.PUBLISHED),
    "cosmos_policy_planning": partial(cosmos_policy_planning, cosmos_policy_sizes.PUBLISHED),
    "diffusion_policy": partial(diffusion_policy, diffusion_policy_sizes.PUBLISHED),
    "diffusion_policy_transformer": partial(diffusion_policy_transformer, diffusion_policy_sizes.TRANSFORMER_PUBLISHED),
    "dreamvla": partial(dreamvla, dreamvla_sizes.PUBLISHED),
    "dreamzero": partial(dreamzero, dreamzero_sizes.PUBLISHED),
    "dreamzero_flash": partial(dreamzero_flash, dreamzero_sizes.FLASH_PUBLISHED),
    "dit4dit": partial(dit4dit, dit4dit_sizes.PUBLISHED),
    "fast_wam": partial(fast_wam, fast_wam_sizes.PUBLISHED),
    "fast_wam_idm": partial(fast_wam_idm, fast_wam_sizes.PUBLISHED),
    "fast_wam_joint": partial(fast_wam_joint, fast_wam_sizes.PUBLISHED),
    "frozen_cloning": partial(frozen_cloning, frozen_cloning_sizes.PUBLISHED),
    "genie_lam": partial(genie_lam, genie_lam_sizes.PUBLISHED),
    "genima": partial(genima, genima_sizes.PUBLISHED),
    "gigaworld_policy": partial(gigaworld_policy, gigaworld_sizes.PUBLISHED),
    "gr1": partial(gr1, gr1_sizes.PUBLISHED),
    "groot_n15": partial(groot_n15, groot_sizes.N15),
    "groot_n17": partial(groot_n17, groot_sizes.N17),
    "hulc": partial(hulc, play_lmp_sizes.HULC_PUBLISHED),
    "lapa": partial(lapa, lapa_sizes.PUBLISHED),
    "lingbot_va": partial(lingbot_va, lingbot_va_sizes.PUBLISHED),
    "lingbot_va_towers": partial(lingbot_va_towers, lingbot_va_sizes.PUBLISHED),
    "mimic_video": partial(mimic_video, mimic_video_sizes.PUBLISHED),
    "molmoact2": partial(molmoact2, molmoact2_sizes.PUBLISHED),
    "motus": partial(motus, motus_sizes.PUBLISHED),
    "openvla": partial(openvla, openvla_sizes.PUBLISHED),
    "openvla_oft": partial(openvla_oft, openvla_oft_sizes.PUBLISHED),
    "pad": partial(pad, pad_sizes.PUBLISHED),
    "pi0": partial(pi0, pi0_sizes.PUBLISHED),
    "pi05": partial(pi05, pi05_sizes.PUBLISHED),
    "pi0_fast": partial(pi0_fast, pi0_fast_sizes.PUBLISHED),
    "pi0_gemma3": partial(pi0_gemma3, GEMMA3_4B),
    "pi0_qwen3": partial(pi0_qwen3, QWEN3_VL_2B),
    "play_lmp": partial(play_lmp, play_lmp_sizes.PUBLISHED),
    "seer": partial(seer, seer_sizes.PUBLISHED),
    "seer_auxiliary": partial(seer_auxiliary, seer_sizes.PUBLISHED),
    "smolvla": partial(smolvla, smolvla_sizes.PUBLISHED),
    "vjepa2_ac": partial(vjepa2_ac, vjepa2_ac_sizes.PUBLISHED),
    "vla_foundry": partial(vla_foundry, vla_foundry_sizes.PUBLISHED),
    "vla_jepa": partial(vla_jepa, vla_jepa_sizes.PUBLISHED),
    "unipi": partial(unipi, unipi_sizes.PUBLISHED),
    "uva": partial(uva, uva_sizes.PUBLISHED),
    "uwm": partial(uwm, uwm_sizes.PUBLISHED),
    "uwm_current": partial(uwm_current, uwm_sizes.PUBLISHED),
    "vlm2vla": partial(vlm2vla, vlm2vla_sizes.PUBLISHED),
    "vpp": partial(vpp, vpp_sizes.PUBLISHED),
    "xvla": partial(xvla, xvla_sizes.PUBLISHED),
}
"""At the size of the publication; backbones and controls of our own have none."""


def sizes(name: str) -> tuple[str, ...]:
    """The sizes in which a recipe exists."""
    return ("nano", "published") if name in PUBLISHED else ("nano",)


def recipe(name: str, size: str = "nano") -> Recipe:
    """The recipe of a name at a size, or an error that suggests the nearest."""
    if name not in RECIPES:
        raise InputError(where="recipe", expected="a known name", got=repr(name), do=nearest(name, RECIPES))
    if size not in sizes(name):
        raise InputError(
            where=f"recipe {name!r}",
            expected=f"a size among {sizes(name)}",
            got=repr(size),
            do=nearest(size, sizes(name)),
        )
    return (RECIPES if size == "nano" else PUBLISHED)[name]()
