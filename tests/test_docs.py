"""The documentation: its examples work, its links exist, its lists are complete."""

import importlib.util
import math
import re

import pytest
import torch

from preferans.training.recipe import CHOICES

from .support.tiny import ROOT


def test_the_notebooks_loss_is_nan_only_in_fp16():
    specification = importlib.util.spec_from_file_location("notebook_nan", ROOT / "docs" / "notebook_nan.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    first, *others = module.losses(torch.float16, 1e-8)
    assert first == pytest.approx(math.log(2), abs=1e-3)
    assert all(map(math.isnan, others))
    for cure in (module.losses(torch.float16, 1e-6), module.losses(torch.float32, 1e-8)):
        assert cure == sorted(cure, reverse=True)
        assert not any(map(math.isnan, cure))


@pytest.mark.parametrize(
    "page",
    ["README.md", "README.ru.md", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))],
)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link
    for named in re.findall(
        r"(?:python|scripts/(?:dpo|sft)\.py) ((?:scripts|data_builders|benchmarks|recipes|docs)/[\w/.]+)", text
    ):
        assert (ROOT / named).exists(), named


def test_every_recipe_has_a_page_and_is_listed():
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "recipes").glob("*.md")}
    for recipe in (ROOT / "recipes").rglob("*.yaml"):
        named = {name for name, text in pages.items() if f"`{recipe.stem}`" in text}
        assert named - {"README.md"}, recipe
        assert recipe.stem in pages["README.md"], recipe
    linked = re.findall(r"\]\((\w+\.md)\)", pages["README.md"])
    assert sorted(linked) == sorted(set(pages) - {"README.md"})


def test_the_table_of_losses_lists_each_loss_once():
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \(.*\|$", text, re.MULTILINE)
    assert sorted(table) == sorted(CHOICES["loss_type"])


def test_the_losses_are_those_of_trl():
    import inspect

    from trl import DPOTrainer

    assert set(re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer))) == set(CHOICES["loss_type"])
