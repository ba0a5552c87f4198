"""Arguments as a user types them, in the words of Hydra's grammar."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deepdft.cli.arguments import positional_list, quote_list, quote_smiles


def parsed(argument: str) -> tuple[str, object]:
    """Key and value that Hydra understands."""
    override = OverridesParser.create().parse_override(argument)
    return override.key_or_group, override.value()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("densities=[PBE=a/CHGCAR,RPBE=b/CHGCAR]", ["PBE=a/CHGCAR", "RPBE=b/CHGCAR"]),
        ("densities=[PBE=a b/x_000.cube, RPBE=~/ü.cube]", ["PBE=a b/x_000.cube", "RPBE=~/ü.cube"]),
        ("densities=['PBE=a,b','RPBE=c']", ["PBE=a,b", "RPBE=c"]),
        ("densities=[GGA_X_PW91+GGA_C_PW91=runs/x=1/CHGCAR]", ["GGA_X_PW91+GGA_C_PW91=runs/x=1/CHGCAR"]),
        ("densities=[]", []),
        ("densities=null", None),
    ],
)
def test_items_with_an_equals_sign_reach_the_config(argument: str, expected: object) -> None:
    assert parsed(quote_list(argument, "densities")) == ("densities", expected)


@pytest.mark.parametrize("argument", ["fields=[a=b]", "densities_of=[a=b]", "output=densities=[a=b]", "-m"])
def test_other_arguments_stay_as_they_are(argument: str) -> None:
    assert quote_list(argument, "densities") == argument


def test_bare_paths_become_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep" / "lr=1e-3,n=2").mkdir(parents=True)
    arguments = ["runs/a", "output=out", "it's here", "sweep/lr=1e-3,n=2", "--cfg", "job", "-p", "runs", "--help"]
    *rest, last = positional_list(arguments, "runs")
    assert rest == ["output=out", "--cfg", "job", "-p", "runs", "--help"]
    assert parsed(last) == ("runs", ["runs/a", "it's here", "sweep/lr=1e-3,n=2"])


@pytest.mark.parametrize("arguments", [[], ["runs=[a,b]"], ["--help"], ["-m", "x=1,2"]])
def test_without_bare_paths_nothing_changes(arguments: list[str]) -> None:
    assert positional_list(arguments, "runs") == arguments


@pytest.mark.parametrize(
    "smiles", ["CC=O", "CC(=O)O", "C#N", "[OH-]", "O=C1OCCO1", "c1ccc(O)cc1", "[Na+].[Cl-]", "F/C=C/F"]
)
def test_smiles_reach_the_config(smiles: str) -> None:
    expected = smiles if smiles != "[OH-]" else ["OH-"]  # a list to Hydra, and to whoever gives structures in one
    assert parsed(quote_smiles(f"structure={smiles}", "structure")) == ("structure", expected)


@pytest.mark.parametrize(
    "value", ["water.xyz", "a.xyz,b.xyz", "[a.xyz,C=O]", "null", "'C=O'", '"C=O"', "glob(*)", "${name}"]
)
def test_other_values_stay_as_they_are(value: str) -> None:
    assert quote_smiles(f"structure={value}", "structure") == f"structure={value}"
    assert quote_smiles(f"structures={value}", "structure") == f"structures={value}"
