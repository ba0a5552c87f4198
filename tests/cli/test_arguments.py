"""Arguments as a user types them, in the words of Hydra's grammar."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from deepdft.cli import train
from deepdft.cli.arguments import positional_list, quote_list, quote_texts


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
    "smiles",
    [
        *("CC=O", "CC(=O)O", "C#N", "N", "O=C1OCCO1", "c1ccc(O)cc1", "F/C=C/F", "F/C=C\\F", "C$C"),
        *("[OH-]", "[NH4+]", "[He]", "[Fe]", "[Na+].[Cl-]"),
    ],
)
def test_smiles_reach_the_config(smiles: str) -> None:
    (argument,) = quote_texts([f"structure={smiles}"], "structure")
    assert parsed(argument) == ("structure", smiles)


@pytest.mark.parametrize(
    "path",
    [
        *("water(1).xyz", "T=300K.cube", "a,b.xyz", "[a.xyz,b.xyz]", "choice(a,b)", "300", "1e-3", "true"),
        *("~x/{1}", "a#1", "a&b;c", "it's here", "ü ä.xyz", " x", "", "x\\", "\\'"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_paths_reach_the_config(path: str, prefix: str) -> None:
    (argument,) = quote_texts([f"{prefix}data.root={path}"], "output", "data.root")
    assert parsed(argument) == ("data.root", path)


@pytest.mark.parametrize("value", ["water.xyz", "null", "'C=O'", '"C=O"', "${name}", "runs/${name}(1)", "a b"])
def test_values_that_hydra_understands_stay_as_they_are(value: str) -> None:
    assert quote_texts([f"structure={value}"], "structure") == [f"structure={value}"]


def test_values_of_other_options_stay_as_they_are() -> None:
    arguments = ["structures=[OH-]", "spacing=0.1", "fields=[iri,dori]", "--cfg", "job", "-structure=[OH-]"]
    assert quote_texts(arguments, "structure") == arguments


@pytest.mark.parametrize("value", ["[a.tar,b.tar]", "[a.xyz,C=O]", "['[OH-]',CO]", "[OH-]", "[x.tar"])
def test_lists_stay_lists(value: str) -> None:
    assert quote_texts([f"source={value}"], lists=["source"]) == [f"source={value}"]


@pytest.mark.parametrize("value", ["T=300K", "a(1).tar", "[Na+].[Cl-]", "a,b.tar"])
def test_what_may_be_a_list_is_quoted_where_it_is_none(value: str) -> None:
    (argument,) = quote_texts([f"source={value}"], lists=["source"])
    assert parsed(argument) == ("source", value)


@pytest.mark.parametrize("flag", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_choices_of_a_sweep_stay_choices(flag: str) -> None:
    sweep = [flag, "init=a,b", "data.root=glob(*)"]
    assert quote_texts(sweep, "init", "data.root") == sweep
    assert quote_texts([flag, "data.root=T=300K"], "data.root") == [flag, "data.root='T=300K'"]


TEXTS = {
    "predict": ["structure", "output", "checkpoint", "export_checkpoint"],
    "evaluate": ["checkpoint", "output", "data.root"],
    "convert": ["source", "output"],
    "generate": ["structures", "output"],
    "train": ["init", "data.root"],
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in TEXTS.items() for key in keys])
def test_commands_take_texts_without_quotes(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"deepdft-{name}", f"{key}=T=3,(1)\\F", "--cfg", "job"])
    importlib.import_module(f"deepdft.cli.{name}").main()
    assert OmegaConf.select(OmegaConf.create(capsys.readouterr().out), key) == "T=3,(1)\\F"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["output=~/x.cube", "source=~/a=b", "label=~/x", "'output=~/x'"]
    expected = ["output=/home/me/x.cube", "source='/home/me/a=b'", "label=~/x", "'output=~/x'"]
    assert quote_texts(given, "output", lists=["source"]) == expected


def test_a_run_goes_into_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["deepdft-train", *arguments])
        train.main()
        return OmegaConf.create(capsys.readouterr().out)

    monkeypatch.chdir(tmp_path)
    stored = tmp_path / "T=3,(1)" / ".hydra"
    stored.mkdir(parents=True)
    (stored / "overrides.yaml").write_text("[seed=3, \"init='a=b'\"]")
    (stored / "hydra.yaml").write_text("hydra: {overrides: {hydra: []}}")
    assert shown("run_dir=T=3,(1)", "--cfg", "hydra").hydra.run.dir == "T=3,(1)"
    config = shown("resume=T=3,(1)", "--cfg", "job")
    assert (config.resume, config.seed, config.init) == ("T=3,(1)", 3, "a=b")
