"""Every row of the published cost table reproduces from its inputs, to the stated digit, and says its basis."""

from __future__ import annotations

import pytest

from crossroads.cost.estimates import FLOP_PER_ZFLOP, H100_HOURS_PER_ZFLOP, Row
from crossroads.cost.ledger import CALIBRATIONS, LEDGER, QUOTED, ROWS, compare, plain, row, table
from crossroads.errors import InputError

# (name, exact ZFLOP, H100-hours, stated ZFLOP, stated hours, basis), recomputed by hand from the inputs of the table.
# The table itself multiplies rounded ZFLOP in three rows and so prints 47,727, 70,191 and 156,400 hours.
EXACT = [
    ("vla_foundry_llm", "5.904", 5526, "5.9", "5.5k", "6NT"),
    ("vla_foundry_vlm", "0.4055", 380, "0.41", "0.4k", "6NT"),
    ("vla_foundry_vla", "0.5566", 521, "0.56", "0.5k", "6NT"),
    ("vla_foundry_full", "6.866", 6427, "6.9", "", "6NT"),
    ("pi_fast_droid_240k", "0.7741", 725, "0.77", "0.7k", "6NT"),
    ("pi_fast_droid_100k", "0.3226", 302, "0.32", "", "6NT"),
    ("dreamzero_low", "8.602", 8051, "8.6", "", "6NT"),
    ("dreamzero_high", "8.990", 8414, "9.0", "8.4k", "6NT"),
    ("molmoact2_droid", "9.840", 9210, "9.8", "", "reported-hours"),
    ("molmoact2_droid_table", "9.846", 9216, "9.8", "", "reported-hours"),
    ("summer_22b", "66.0", 61776, "66", "62k", "6NT"),
    ("wan14b_stack", "50.99", 47726, "51", "", "6NT"),
    ("summer_plus_dreamzero", "74.99", 70190, "75.0", "70k", "6NT"),
    ("unipi", "167.1", 156421, "167", "156k", "cnn"),
    ("cosmos_policy_libero", "3.282", 3072, "3.28", "", "reported-hours"),
    ("cosmos_policy_robocasa", "1.641", 1536, "1.64", "", "reported-hours"),
    ("cosmos_policy_aloha", "0.4103", 384, "0.41", "", "reported-hours"),
    ("lingbot_va", "44.52", 41671, "", "", "6NT"),
]


def decimals(written: str) -> int:
    return len(written.partition(".")[2])


@pytest.mark.parametrize(("name", "zflop", "h100_hours", "stated", "stated_hours", "basis"), EXACT)
def test_a_row_reproduces_its_figures_and_its_basis(
    name: str, zflop: str, h100_hours: int, stated: str, stated_hours: str, basis: str
) -> None:
    found = row(name)
    assert f"{found.zflop:.{decimals(zflop)}f}" == zflop
    assert round(found.h100_hours) == h100_hours
    assert (found.stated, found.stated_hours, found.basis) == (stated, stated_hours, basis)


def test_no_row_is_left_out_of_this_test() -> None:
    assert [name for name, *_ in EXACT] == list(LEDGER)


@pytest.mark.parametrize("found", ROWS, ids=lambda found: found.name)
def test_a_row_rounds_to_what_its_source_states_in_the_source_s_own_digits(found: Row) -> None:
    if found.stated:
        assert f"{found.zflop:.{decimals(found.stated)}f}" == found.stated
    if hours := found.stated_hours.removesuffix("k"):
        # 521 and 725 hours are stated as 0.5k and 0.7k, and 5,526 as 5.5k
        assert f"{found.h100_hours / 1000:.{decimals(hours)}f}" == hours


def test_hours_stated_at_another_rate_come_out_too() -> None:
    unipi = row("unipi")
    assert unipi.at_rate is not None
    assert f"{unipi.flop / unipi.at_rate.flop_per_s / 3600 / 1000:.0f}k" == unipi.at_rate.stated == "207k"


def test_the_constant_is_the_peak_rate_at_thirty_percent() -> None:
    assert round(FLOP_PER_ZFLOP / (989.4e12 * 0.30 * 3600)) == H100_HOURS_PER_ZFLOP


def test_the_ratio_quoted_in_the_text_comes_out_and_carries_no_warning() -> None:
    dearer, cheaper, quoted = QUOTED
    ratio = compare(row(dearer), row(cheaper))
    assert f"{ratio.value:.2f}" == "7.43"
    assert f"{ratio.value:.1f}" == quoted == f"{51 / 6.9:.1f}"
    assert ratio.warning == ""
    assert "both on the basis 6NT" in str(ratio)


@pytest.mark.parametrize(("dearer", "cheaper"), [("molmoact2_droid", "pi_fast_droid_240k"), ("unipi", "dreamzero_low")])
def test_rows_on_different_bases_are_not_divided_unless_asked_and_then_it_says_so(dearer: str, cheaper: str) -> None:
    first, second = row(dearer), row(cheaper)
    with pytest.raises(InputError, match=rf"{first.basis}.*{second.basis}.*--across-bases"):
        compare(first, second)
    ratio = compare(first, second, across_bases=True)
    assert ratio.value == pytest.approx(first.flop / second.flop)
    assert f"{dearer} on {first.basis}, {cheaper} on {second.basis}" in str(ratio)
    assert "factor of about two" in ratio.plain()["warning"]


def test_a_chain_costs_the_sum_of_its_parts() -> None:
    parts = ("vla_foundry_llm", "vla_foundry_vlm", "vla_foundry_vla")
    assert row("vla_foundry_full").zflop == pytest.approx(sum(row(name).zflop for name in parts))
    assert row("summer_plus_dreamzero").flop == pytest.approx(row("summer_22b").flop + row("dreamzero_high").flop)


def test_where_hours_and_tokens_are_both_known_the_utilisation_is_the_one_computed_by_hand() -> None:
    assert [f"{found.utilisation:.1%}" for found in CALIBRATIONS] == ["23.6%", "31.9%", "15.7%"]
    assert [round(found.reported_hours) for found in CALIBRATIONS] == [384, 384, 5760]


def test_the_table_shows_formula_inputs_and_basis_of_every_row() -> None:
    text = table()
    assert all(found.formula in text and found.source in text and found.basis in text for found in ROWS)
    assert (
        row("pi_fast_droid_240k").formula == "6 x 3B parameters x 240k steps x 256 samples a step x 700 tokens a sample"
    )
    assert row("molmoact2_droid_table").formula.startswith("(5,760 H100-h / 936) + (2,304 H100-h / 936)")
    assert "8,361 tokens a sample" in row("dreamzero_high").formula
    assert [found["zflop"] for found in plain()["rows"]] == [found.zflop for found in ROWS]


def test_an_unknown_row_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'dreamzero_high'"):
        row("dreamzero_hihg")
