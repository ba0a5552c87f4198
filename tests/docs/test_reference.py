"""The reference lists every option, and the files that name the same version or tool agree."""

import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def options():
    """The module that makes the tables."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        import options
    finally:
        sys.path.pop(0)
    return options


def keys(content, prefix=""):
    for key, value in content.items():
        if key not in ("defaults", "hydra") or prefix:
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_option_is_in_the_reference(options, path: Path) -> None:
    if path.parent.name == "hydra":
        return
    found = {option.key: option for option in options.read(path).options}
    content = OmegaConf.to_container(OmegaConf.load(path)) or {}
    inline = re.findall(r"^ *(\w+): *\{.+", path.read_text(), re.MULTILINE)  # a mapping in one line is one option
    expected = {key for key in keys(content) if not any(f"{name}." in key for name in inline)}
    assert set(found) == expected
    for key, option in found.items():
        value = functools.reduce(dict.__getitem__, key.split("."), content)
        if isinstance(value, int | float) and not isinstance(value, bool) and "${" not in option.default:
            assert float(option.default) == value


def test_units_are_told_apart_from_the_meaning(options) -> None:
    (spacing,) = (option for option in options.read(CONF / "predict.yaml").options if option.key == "spacing")
    assert (spacing.default, spacing.unit) == ("null", "Å")
    assert spacing.comment.startswith("largest distance between grid points")


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    tags = subprocess.run(
        ["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert all(tag == f"v{PROJECT['version']}" for tag in tags if re.fullmatch(r"v\d+\.\d+\.\d+", tag))


def test_hooks_have_the_ruff_of_the_project() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (pinned,) = (one for one in PROJECT["optional-dependencies"]["dev"] if one.startswith("ruff=="))
    assert {f"ruff=={repo['rev'].removeprefix('v')}" for repo in hooks if "ruff" in repo["repo"]} == {pinned}


def test_workflows_and_templates_are_valid_yaml() -> None:
    files = [*(ROOT / ".github").rglob("*.yml")]
    assert files
    assert all(yaml.safe_load(file.read_text()) for file in files)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_at_the_top_of_the_repository_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text())
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_nobody_is_told_to_install_somebody_elses_package() -> None:
    wrong = re.compile(r"pip install (?:[\"'])?deepdft(?!-lightning)")
    for path in [ROOT / "README.md", *(ROOT / "deepdft").rglob("*.py"), *CONF.rglob("*.yaml")]:
        assert not wrong.search(path.read_text(encoding="utf-8")), path
