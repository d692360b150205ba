"""What the pages show is what their programs do, and their links lead somewhere."""

import importlib.util
import math
import re

import pytest
import torch

from .support.tiny import ROOT


def test_the_notebooks_loss_is_nan_in_fp16_alone():
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
    "page", ["README.md", "README.ru.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_and_named_files_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link
    for named in re.findall(
        r"(?:python|scripts?/dpo\.py) ((?:scripts|data_builders|benchmarks|recipes|docs)/[\w/.]+)", text
    ):
        assert (ROOT / named).exists(), named
