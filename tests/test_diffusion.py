"""Discrete processes: their conversions are inverses, and their solvers are those of diffusers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from nano_batch import ROBOT, nano_batch
from tiny_stage import tiny_recipe
from torch import Tensor

from crossroads.build import build
from crossroads.diffusion import CosineBetas, Ddim, Ddpm, LinearBetas, Process, SquaredBetas, step_at
from crossroads.errors import InputError
from crossroads.objectives import Diffusion, Flow
from crossroads.recipe import Recipe
from crossroads.schedule import Denoise
from crossroads.solvers import Euler, Skipping

ANSWERS = ("epsilon", "sample", "v")
BETAS = {
    "linear": LinearBetas(first=1e-3, last=0.1),
    "scaled_linear": SquaredBetas(first=0.001, last=0.05),
    "squaredcos_cap_v2": CosineBetas(),
}
every_answer = pytest.mark.parametrize("answers", ANSWERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twin(of: str, process: Process, steps: int, **settings: Any) -> Any:
    """The scheduler of diffusers for a process."""
    diffusers = pytest.importorskip("diffusers")
    name = next(name for name, betas in BETAS.items() if betas == process.betas)
    ends = {} if name == "squaredcos_cap_v2" else {"beta_start": BETAS[name].first, "beta_end": BETAS[name].last}  # pyright: ignore
    kind = {"epsilon": "epsilon", "sample": "sample", "v": "v_prediction"}[process.answers]
    scheduler = getattr(diffusers, of)(
        num_train_timesteps=process.num_steps, beta_schedule=name, prediction_type=kind, **ends, **settings
    )
    scheduler.set_timesteps(steps)
    return scheduler


def network(x: Tensor, level: float) -> Tensor:
    """An answer that depends on state and level."""
    return torch.sin(3 * x + 2 * level) + 0.3 * x


def walked(scheduler: Any, process: Process, x: Tensor, **settings: Any) -> Tensor:
    """Diffusers' walk with the same network."""
    for step in scheduler.timesteps:
        x = scheduler.step(network(x, (step.item() + 1) / process.num_steps), step, x, **settings).prev_sample
    return x


@pytest.mark.parametrize("name", BETAS)
def test_a_process_keeps_what_that_of_diffusers_keeps_and_noises_alike(name: str) -> None:
    process = Process(betas=BETAS[name], num_steps=40, answers="v")
    theirs = twin("DDPMScheduler", process, 40)
    torch.testing.assert_close(process.kept().float(), theirs.alphas_cumprod, rtol=1e-5, atol=1e-7)
    clean, noise, steps = torch.randn(40, 3), torch.randn(40, 3), torch.arange(40)
    level = process.level(steps)[:, None]
    torch.testing.assert_close(
        process.noised(clean, noise, level), theirs.add_noise(clean, noise, steps), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        process.owed(clean, noise, level), theirs.get_velocity(clean, noise, steps), rtol=1e-5, atol=1e-5
    )


@every_answer
def test_answers_lead_back_to_what_was_noised(answers: Literal["epsilon", "sample", "v"]) -> None:
    process = Process(num_steps=7, answers=answers)
    clean, noise = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for step in range(7):
        level = process.level(torch.tensor(step)).double()
        x, owed = process.noised(clean, noise, level), process.owed(clean, noise, level)
        for found, wanted in zip(process.parts(x, owed, step), (clean, noise), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(process.towards(x, clean, level), owed, rtol=1e-6, atol=1e-6)


def test_levels_and_steps_are_inverse_and_level_zero_is_exactly_clean() -> None:
    process = Process(num_steps=1000)
    steps = torch.arange(-1, 1000)
    level = process.level(steps)
    assert (level[0], level[-1]) == (0, 1)
    assert torch.equal(step_at(level, 1000, clean=True), steps)
    assert torch.equal(step_at(level, 1000), steps.clamp(min=0))  # what a network is told of clean tokens
    x = torch.randn(2, 3)
    assert torch.equal(process.noised(x, torch.randn(2, 3), torch.zeros(2, 1)), x)


@every_answer
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 6), ("trailing", 6), ("trailing", 7)])
@pytest.mark.parametrize("clip", [None, 0.8])
def test_ddim_is_that_of_diffusers(answers: Any, spacing: Any, steps: int, clip: float | None) -> None:
    process = Process(num_steps=42, answers=answers)
    x = torch.randn(3, 5, generator=seeded())
    clipping = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
    for eta in (0.0, 0.7):
        ours = Ddim(process=process, steps=steps, spacing=spacing, clip=clip, eta=eta).solve(x, network, seeded(1))
        theirs = twin("DDIMScheduler", process, steps, timestep_spacing=spacing, **clipping)
        wanted = walked(theirs, process, x, eta=eta, generator=seeded(1))
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


@every_answer
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 6), ("trailing", 7), ("linspace", 9), ("leading", 42)])
def test_ancestral_sampling_is_that_of_diffusers(answers: Any, spacing: Any, steps: int) -> None:
    process = Process(betas=BETAS["linear"], num_steps=42, answers=answers)
    x = torch.randn(3, 5, generator=seeded())
    ours = Ddpm(process=process, steps=steps, spacing=spacing).solve(x, network, seeded(1))
    theirs = twin("DDPMScheduler", process, steps, timestep_spacing=spacing)
    torch.testing.assert_close(ours, walked(theirs, process, x, generator=seeded(1)), rtol=1e-4, atol=1e-4)


def test_where_the_network_knows_the_clean_value_every_solver_ends_there() -> None:
    clean = torch.randn(2, 5, generator=seeded()).clamp(-1, 1)
    process = Process(num_steps=50)

    def knowing(x: Tensor, level: float) -> Tensor:
        return process.towards(x, clean, torch.tensor(level))

    for solver in (
        Ddim(process=process, steps=5),
        Ddim(process=process, steps=5, eta=1.0),
        Ddpm(process=process, steps=50),
    ):
        found = solver.solve(torch.randn(2, 5, generator=seeded(2)), knowing, seeded(1))
        torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)


def test_the_objective_owes_what_its_process_says_and_compares_valid_tokens_alone() -> None:
    objective = Diffusion(process=Process(num_steps=20))
    clean = torch.randn(200, 4, 3, generator=seeded())
    for num in (1, 4):
        shown = objective.corrupt(clean, objective.draw(200, num, seeded()), seeded(1))
        assert shown.level.shape == (200, num)
        steps = step_at(shown.level, 20, clean=True)
        assert steps.unique().tolist() == list(range(20))  # every step is drawn, and never that of the clean
        spread = shown.level[:, :, None]
        torch.testing.assert_close(objective.towards(shown.latent, clean, spread), shown.target, rtol=1e-3, atol=1e-2)
    valid = torch.tensor([[True] * 4, [True, False, False, False]]).repeat(100, 1)
    answer = shown.target.clone()
    answer[1, 1:] += 9.0
    assert not objective.loss(answer, shown, valid).any()
    answer[1, 0] += 2.0
    assert objective.loss(answer, shown, valid)[1].item() == pytest.approx(4.0)


PROCESS = Process(num_steps=10)


def discrete(solver: Any = Ddim(process=PROCESS, steps=5)) -> Recipe:  # noqa: B008
    """The tiny recipe with a discrete process of its actions."""
    recipe = tiny_recipe()
    streams = tuple(
        replace(stream, objective=Diffusion(process=PROCESS)) if isinstance(stream.objective, Flow) else stream
        for stream in recipe.stage.streams
    )
    return replace(
        recipe, stage=replace(recipe.stage, streams=streams, schedule=(Denoise(streams=("action",), solver=solver),))
    )


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        (Euler(steps=2), "Flow objective"),
        (Ddim(process=Process(num_steps=10, answers="v"), steps=5), "process"),
        (Ddpm(process=PROCESS, steps=11), "1 to 10 steps"),
    ],
)
def test_a_process_that_is_not_undone_as_it_was_learned_is_refused(solver: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        discrete(solver).validate()
    with pytest.raises(InputError, match="Diffusion objective"):
        replace(
            tiny_recipe(),
            stage=replace(
                tiny_recipe().stage, schedule=(Denoise(streams=("action",), solver=Ddim(process=PROCESS, steps=5)),)
            ),
        ).validate()


@pytest.mark.parametrize("solver", [Ddim(process=PROCESS, steps=5), Ddpm(process=PROCESS, steps=10)])
def test_a_policy_walks_a_process_with_its_own_draws_and_is_led_to_what_is_known(solver: Any) -> None:
    recipe = discrete(solver)
    policy = build(recipe, ROBOT, seed=1)
    obs = nano_batch(recipe).obs
    found = [policy.settle(obs, generator=seeded(seed)).streams["action"] for seed in (3, 3, 4)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    known = 3 * torch.randn(found[0].shape, generator=seeded())  # beyond what the solver clips
    assert torch.equal(policy.settle(obs, generator=seeded(), known={"action": known}).streams["action"], known)
    quick = recipe.vary({"stage.schedule.0.skipping": Skipping(evaluated=(0,))})
    assert bool(build(quick, ROBOT, seed=1).settle(obs, generator=seeded()).streams["action"].isfinite().all())


SPREAD = Process(betas=BETAS["linear"], num_steps=42, spread=True)


def test_the_bound_is_nothing_for_the_true_step_and_teaches_the_spread_alone() -> None:
    clean, noise = torch.randn(40, 3, generator=seeded()), torch.randn(40, 3, generator=seeded(1))
    level = SPREAD.level(torch.arange(1, 41))[:, None]  # of the first step the clean value itself is scored
    shown = SPREAD.noised(clean, noise, level)
    low = torch.full_like(noise, -1.0)
    torch.testing.assert_close(SPREAD.bound(shown, noise, noise, low, level), torch.zeros(40, 3), rtol=0, atol=1e-4)
    assert bool((SPREAD.bound(shown, noise, noise, low + 1.0, level) > 1e-4).any())
    answer, spread = (torch.randn(40, 3, generator=seeded(2)).requires_grad_(True) for _ in range(2))
    SPREAD.bound(shown, noise, answer, spread, level).sum().backward()
    assert answer.grad is None
    assert spread.grad is not None
    assert bool(spread.grad.any())
    first = SPREAD.level(torch.zeros(1, dtype=torch.long))[:, None]
    x = SPREAD.noised(clean[:1].clamp(-0.9, 0.9), noise[:1], first)
    near, far = (SPREAD.bound(x, noise[:1], noise[:1] + by, low[:1], first) for by in (0.0, 5.0))
    assert bool((near < far).all())


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 9), ("leading", 42)])
def test_ancestral_sampling_with_an_answered_variance_is_that_of_diffusers(spacing: Any, steps: int) -> None:
    x = torch.randn(3, 4, generator=seeded())

    def both(state: Tensor, level: float) -> Tensor:
        return torch.cat([network(state, level), torch.sin(5 * state + level)], dim=1)

    ours = Ddpm(process=SPREAD, steps=steps, spacing=spacing).solve(x, both, seeded(1))
    theirs = twin("DDPMScheduler", SPREAD, steps, timestep_spacing=spacing, variance_type="learned_range")
    wanted, generator = x, seeded(1)
    for step in theirs.timesteps:
        answer = both(wanted, (step.item() + 1) / 42)
        wanted = theirs.step(answer, step, wanted, generator=generator).prev_sample
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    plain = Ddim(process=SPREAD, steps=steps, spacing=spacing).solve(x, both, seeded(1))
    known = Ddim(process=replace(SPREAD, spread=False), steps=steps, spacing=spacing).solve(x, network, seeded(1))
    assert torch.equal(plain, known)
