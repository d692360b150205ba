"""Tiny models of the real classes with random weights, and their tokenizer."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "oasst1_ru_sample.jsonl"

PLAIN_TEMPLATE = (ROOT / "recipes" / "chat_templates" / "plain_ru.jinja").read_text(encoding="utf-8").rstrip("\n")
CHAT_TEMPLATE = (
    "{%- set date = date_string if date_string is defined else '' -%}"  # a variable, as of Llama 3.2
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}"
)

# As of a model that thinks: training text has an empty thinking block, and so has a prompt if thinking is turned off.
THINKING_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}"
    "{%- if message.role == 'assistant' and loop.last -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}"
    "{{- message.content + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}"
    "{%- endif -%}"
)

# Two layers, grouped heads and tied embeddings.
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def sample_texts() -> list[str]:
    return [json.loads(line)["text"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def make_tokenizer(vocab_size: int = 600):
    """Train a byte-level BPE tokenizer with Llama 3's special tokens on the project's sample."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<pad>",
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<pad>",
        padding_side="left",
    )


def make_llama(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """Make a Llama of two layers in the shape of Llama-3.2: grouped heads and tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _save(folder, LlamaConfig, LlamaForCausalLM, SHAPE, chat_template)


def make_gpt2(folder: Path) -> Path:
    """Make a GPT-2 of two layers in the shape of ruGPT-3: Conv1D layers, learned positions, no chat template."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return _save(
        folder, GPT2Config, GPT2LMHeadModel, {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}, None
    )


def make_gemma3(folder: Path) -> Path:
    """Make a Gemma 3 of two layers: one with a sliding window, one without; no chat template."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 32,
    }
    return _save(folder, Gemma3TextConfig, Gemma3ForCausalLM, shape, None)


def make_qwen2(folder: Path) -> Path:
    """Make a Qwen2 of two layers in the shape of Qwen2.5: biases in the attention, grouped heads, tied embeddings."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return _save(folder, Qwen2Config, Qwen2ForCausalLM, SHAPE, CHAT_TEMPLATE)


def make_qwen3(folder: Path) -> Path:
    """Make a Qwen3 of two layers that thinks by default: normalized queries and keys, grouped heads, tied embeddings."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return _save(folder, Qwen3Config, Qwen3ForCausalLM, SHAPE | {"head_dim": 16}, THINKING_TEMPLATE)


def _save(folder: Path, config_class, model_class, shape: dict, chat_template: str | None) -> Path:
    import torch

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template
    config = config_class(
        **shape,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_parrot(folder: Path, reply: str) -> Path:
    """Make a Llama that answers every prompt with the same sentence and ends its turn, for predictable served answers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.add_tokens([reply])
    reply_ids = tokenizer.convert_tokens_to_ids(reply)
    before = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], add_generation_prompt=True)["input_ids"]
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # only the last token matters: the layer adds nothing, and the head has two tokens
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        embedded = torch.nn.functional.normalize(model.model.embed_tokens.weight)
        model.lm_head.weight.zero_()
        model.lm_head.weight[reply_ids] = 100 * embedded[before[-1]]
        model.lm_head.weight[tokenizer.eos_token_id] = 100 * embedded[reply_ids]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
