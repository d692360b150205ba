import pytest
import torch
import trl.kernels.chunked_logprob
import trl.trainer.utils
from trl import DPOTrainer

from preferans.errors import PreferansError
from preferans.training.recipe import CHOICES

from ..support.trainers import first_batch

both_layouts = pytest.mark.parametrize("layout", ["separate", "packed"])


def step(trainer, batch) -> tuple[float, dict[str, torch.Tensor], dict[str, list[float]]]:
    trainer.current_gradient_accumulation_steps = 2
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()
    loss = trainer.training_step(trainer.model, batch)
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, dict(trainer._metrics["train"])


@pytest.fixture
def compare_with_trl(make_trainer, monkeypatch):
    """One step of ours and one of TRL's own trainer, untouched, with the same adapter and batch."""

    def compare(layout, tolerance=1e-5, **settings):
        settings = {"load_in_4bit": False, "precompute_ref_log_probs": True} | settings
        ours = make_trainer(ours={"pair_layout": layout}, **settings)
        batch = first_batch(ours)
        assert batch["attention_mask"].sum(dim=1).unique().numel() > 1, (
            "all of one length: padding would not be tested"
        )
        loss, gradients, metrics = step(ours, batch)
        trls = make_trainer(DPOTrainer, **settings)
        for name, parameter in trls.model.named_parameters():
            if parameter.requires_grad:
                parameter.data = ours.model.get_parameter(name).detach().clone()
        monkeypatch.setattr(trl.trainer.utils, "_use_triton", trl.kernels.chunked_logprob._use_triton)
        trl_loss, trl_gradients, trl_metrics = step(trls, batch)
        assert loss == pytest.approx(trl_loss, rel=tolerance)
        assert gradients.keys() == trl_gradients.keys()
        for name, gradient in trl_gradients.items():
            assert gradient.norm() > 0, name
            assert (gradients[name] - gradient).norm() / gradient.norm() < tolerance, name
        assert metrics.keys() == trl_metrics.keys()
        for name, values in trl_metrics.items():
            if name != "num_tokens":  # counts on from step to step
                assert metrics[name] == pytest.approx(values, rel=max(tolerance, 1e-4), abs=1e-5), name

    return compare


EXTRA = {"exo_pair": {"label_smoothing": 1e-3}, "robust": {"label_smoothing": 0.1}}


@both_layouts
@pytest.mark.parametrize("loss_type", [[name] for name in CHOICES["loss_type"]] + [["sigmoid", "sft"]])
def test_every_loss_has_trls_value_gradients_and_metrics(compare_with_trl, loss_type, layout):
    compare_with_trl(layout, loss_type=loss_type, **EXTRA.get(loss_type[0], {}))


@both_layouts
@pytest.mark.parametrize(
    "settings",
    [
        {"load_in_4bit": True},
        {"gradient_checkpointing": True},
        {"max_length": 60},
        {"use_weighting": True},
        {"ld_alpha": 0.5},
        {"f_divergence_type": "js_divergence"},
        {"per_device_train_batch_size": 1},
        {"per_device_train_batch_size": 3},
    ],
    ids=str,
)
def test_combines_with_every_other_switch(compare_with_trl, settings, layout):
    compare_with_trl(layout, **settings)


@pytest.mark.parametrize("settings", [{}, {"max_length": 60, "truncation_mode": "keep_end"}], ids=str)
def test_packed_pairs_need_no_precomputed_reference(compare_with_trl, settings):
    compare_with_trl("packed", precompute_ref_log_probs=False, **settings)


@both_layouts
def test_under_autocast_no_gradient_is_lost(compare_with_trl, layout):
    """Autocast keeps its copies of the weights; one made without gradients must not serve the passes that need them."""
    compare_with_trl(layout, tolerance=0.05, bf16=True)


@both_layouts
def test_a_run_ends_in_trls_weights(make_trainer, tmp_path, layout):
    settings = {
        "load_in_4bit": False,
        "precompute_ref_log_probs": True,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "max_steps": 20,
    }
    ours = make_trainer(ours={"pair_layout": layout}, **settings)
    trls = make_trainer(DPOTrainer, **settings)
    for name, parameter in trls.model.named_parameters():
        if parameter.requires_grad:
            parameter.data = ours.model.get_parameter(name).detach().clone()
    start = {name: p.detach().clone() for name, p in ours.model.named_parameters() if p.requires_grad}
    ours.train()
    trls.train()
    for name, weights in start.items():
        moved = ours.model.get_parameter(name) - weights
        assert moved.norm() > 0, name
        assert (ours.model.get_parameter(name) - trls.model.get_parameter(name)).norm() / moved.norm() < 1e-3, name
        torch.testing.assert_close(ours.model.get_parameter(name), trls.model.get_parameter(name), atol=1e-4, rtol=0)
    assert [entry["loss"] for entry in ours.state.log_history[:-1]] == pytest.approx(
        [entry["loss"] for entry in trls.state.log_history[:-1]], rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precompute_ref_log_probs": False}, "precompute_ref_log_probs: true"),
        ({"precompute_ref_log_probs": True, "disable_dropout": False}, "lora_dropout: 0.0"),
    ],
    ids=str,
)
def test_rejects_keys_that_need_the_whole_batch(make_trainer, settings, words):
    with pytest.raises(PreferansError, match=f"pair_layout: separate cannot be used here: .*{words}"):
        make_trainer(ours={"pair_layout": "separate"}, lora_dropout=0.1, **settings)
