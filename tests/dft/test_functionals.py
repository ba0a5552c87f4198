"""The eight functionals are found by name and by tag, and libxc knows them."""

from dataclasses import replace

import pytest

from deepdft.dft.functionals import FUNCTIONALS, PAPER, functionals


def test_all_are_the_papers_eight_with_the_reference_first() -> None:
    found = functionals("all")
    assert found[0].label == "PBE"
    assert sorted(f.tag for f in found) == sorted(["BF", "PE", "91", "CA", "PZ", "RP", "RE", "PS"])


@pytest.mark.parametrize("names", ["RPBE", "rp", ["RP"], ["rpbe"]])
def test_names_and_tags_in_any_case(names: str | list[str]) -> None:
    assert functionals(names) == [FUNCTIONALS["RPBE"]]


def test_the_order_is_the_users() -> None:
    assert [f.label for f in functionals(["PS", "PBE", "91"])] == ["PBEsol", "PBE", "PW91"]


@pytest.mark.parametrize("names", [91, [91], "91"])
def test_a_tag_may_be_a_number(names: str | int | list[int]) -> None:
    assert functionals(names) == [FUNCTIONALS["PW91"]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["PBE", "B3LYP"], r"xc=B3LYP: expected all, or some of PBE \(PE\)"),
        ([], "xc=: expected all"),
        (["PBE", "PE"], "xc=PBE,PE: a functional comes twice"),
    ],
)
def test_others_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functionals(names)


@pytest.mark.parametrize("functional", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_gpaw_has_the_functional_and_its_paw_sets(functional) -> None:
    pytest.importorskip("gpaw", reason="GPAW is not installed: make gpaw")
    from gpaw.setup_data import SetupData
    from gpaw.xc import XC

    XC(functional.kernel)  # raises for a name that libxc does not know
    for element in ("H", "Li", "C", "N", "O", "F", "Mn", "Co", "Ni"):
        SetupData.find_and_read_path(element, functional.setups)


def test_all_means_the_eight_of_the_paper_whatever_else_can_be_calculated(monkeypatch: pytest.MonkeyPatch) -> None:
    ninth = replace(FUNCTIONALS["PBE"], label="SCAN", tag="SC")
    monkeypatch.setitem(FUNCTIONALS, "SCAN", ninth)
    assert [functional.label for functional in functionals("all")] == list(PAPER)
    assert len(PAPER) == 8
    assert functionals("SCAN") == [ninth]
