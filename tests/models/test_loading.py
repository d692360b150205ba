"""Loading models and tokenizers, and the checks after it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import ModelConfig

from preferans.errors import PreferansError
from preferans.models.loading import (
    check_4bit,
    check_model_exists,
    check_stored_bits,
    check_token_ids,
    load_config,
    load_model,
    load_tokenizer,
)

from ..support.tiny import make_llama
from ..support.trainers import CPU


def test_every_linear_layer_is_in_4_bits(tiny_llama):
    model = load_model(ModelConfig(str(tiny_llama), load_in_4bit=True, dtype="float32"), CPU)
    assert check_4bit(model) == 2 * 7
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with pytest.raises(
        PreferansError, match=r"14 of 14 linear layers are not in 4 bits \(model.layers.0.self_attn.q_proj"
    ):
        check_4bit(plain)
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(64, 128)
    with pytest.raises(PreferansError, match=r"1 of 14 .*layers.1.mlp.up_proj"):
        check_4bit(model)


@pytest.fixture
def stored_in_4bit(tiny_llama, tmp_path):
    """A model that is stored in 4 bits with bfloat16 for computing, as unsloth's are."""
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype="bfloat16", bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, quantization_config=quantization, device_map="cpu")
    model.save_pretrained(tmp_path / "4bit")
    return str(tmp_path / "4bit")


def test_a_model_stored_in_4_bits_is_loaded_as_such(stored_in_4bit):
    model = load_model(ModelConfig(stored_in_4bit, load_in_4bit=True, dtype="float32"), CPU)
    assert check_4bit(model) == 2 * 7
    assert model.model.layers[0].mlp.up_proj.compute_dtype == torch.float32
    with pytest.raises(
        PreferansError, match=r"load_in_4bit is false, but .* stored in 4 bits. Set load_in_4bit: true"
    ):
        load_model(ModelConfig(stored_in_4bit, dtype="float32"), CPU)


def test_rejects_weights_of_another_quantization(tiny_llama):
    config = load_config(str(tiny_llama), "main")
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(PreferansError, match="are quantized with gptq, which cannot be trained here"):
        check_stored_bits(config, True, False, "recipe")


@pytest.mark.parametrize("dtype", ["auto", None])
def test_4_bits_compute_in_the_dtype_of_the_model(tiny_llama, dtype):
    model = load_model(ModelConfig(str(tiny_llama), load_in_4bit=True, dtype=dtype), CPU)
    assert model.model.layers[0].mlp.up_proj.compute_dtype == torch.float32


def test_names_a_quantization_key_that_is_wrong(tiny_llama):
    with pytest.raises(PreferansError, match="`bnb_4bit_quant_storage` must be a valid string"):
        load_model(ModelConfig(str(tiny_llama), load_in_4bit=True, bnb_4bit_quant_storage="nope"), CPU)


def test_rejects_a_missing_model(tmp_path):
    for name in (str(tmp_path / "absent"), "./models/x", "cache/gemma-3-270m-ru-absent"):
        with pytest.raises(PreferansError, match="there is no such folder"):
            check_model_exists(name)
    with pytest.raises(PreferansError, match=r"no config\.json"):
        check_model_exists(str(tmp_path))
    with pytest.raises(PreferansError, match="is missing"):
        check_model_exists(None)
    check_model_exists("meta-llama/Llama-3.2-1B-Instruct")


def test_a_base_model_needs_a_chat_template(tmp_path):
    folder = str(make_llama(tmp_path / "base", chat_template=None))
    with pytest.raises(PreferansError, match="no chat template.*plain_ru.jinja"):
        load_tokenizer(folder, "main", None)
    with pytest.raises(PreferansError, match="chat_template_path absent.jinja: cannot be read"):
        load_tokenizer(folder, "main", "absent.jinja")


def test_plain_russian_template(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama), "main", "recipes/chat_templates/plain_ru.jinja")
    messages = [
        {"role": "system", "content": "Отвечай кратко."},
        {"role": "user", "content": "Сколько будет 2 + 2? "},
        {"role": "assistant", "content": "Четыре."},
        {"role": "user", "content": "А 3 + 3?"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|begin_of_text|>Отвечай кратко.\n\nВопрос: Сколько будет 2 + 2?\nОтвет: Четыре.<|eot_id|>\nВопрос: А 3 + 3?\nОтвет:"
    )
    answered = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "Шесть."}], tokenize=False)
    assert answered == prompt + " Шесть.<|eot_id|>\n"


def test_plain_spanish_template(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama), "main", "recipes/chat_templates/plain_es.jinja")
    messages = [{"role": "user", "content": "¿Cuánto es 2 + 2?"}, {"role": "assistant", "content": "Cuatro."}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<|begin_of_text|>Pregunta: ¿Cuánto es 2 + 2?\nRespuesta: Cuatro.<|eot_id|>\n"
    )
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|begin_of_text|>Pregunta: ¿Cuánto es 2 + 2?\nRespuesta:"


def test_faults_of_the_hub_are_told_apart(hub):
    hub.seed("model", "meta/gated", {"config.json": b"{}"}, gated="manual")
    code = """
from preferans.errors import PreferansError
from preferans.models.loading import load_config
for name in ("meta/absent", "meta/gated"):
    try:
        load_config(name, "main")
    except PreferansError as error:
        print(error)
"""
    absent, gated = hub.run(code, token=hub.token("bob", gated=False)).stdout.splitlines()
    assert "on the Hub there is no such model, or it is private" in absent
    assert "the model is gated. Request access on its page" in gated


def test_names_a_token_without_an_embedding(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama), "main", None)
    size = len(tokenizer)
    check_token_ids(tokenizer, size, ["Да."], "x")
    tokenizer.add_tokens(["Вопрос"])
    check_token_ids(tokenizer, size, ["Да."], "x")  # as Gemma's token of an image, which no text has
    with pytest.raises(PreferansError, match=rf"x: .*'Вопрос' \(id {size}\), but .* only {size} embeddings"):
        check_token_ids(tokenizer, size, ["Да.", "Вопрос?"], "x")
    tokenizer.pad_token = "Вопрос"
    with pytest.raises(PreferansError, match="the token 'Вопрос'"):
        check_token_ids(tokenizer, size, [], "x")
