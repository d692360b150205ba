import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, write_json
from preferans.models.bpe import BpeTokenizer
from preferans.models.letters import is_of_language, letters_of
from preferans.models.trimmed import trimmed_from, trimming_in_words
from preferans.models.vocabulary import check_trimmed, trim_vocabulary
from preferans.release.model_card import model_card
from preferans.training.run_folder import provenance

from ..support import mixed
from ..support.tiny import sample_texts

RUSSIAN = letters_of("ru")


@pytest.fixture(scope="module", params=["gemma", "llama", "gpt2"])
def full(request, tmp_path_factory):
    return getattr(mixed, f"make_{request.param}")(tmp_path_factory.mktemp("full") / request.param)


@pytest.fixture(scope="module")
def cut(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / full.name
    trim_vocabulary(full, folder, latin_cutoff=500)
    return folder


@pytest.fixture(scope="module")
def pair(full, cut):
    """The two tokenizers and the old number of each kept token."""
    return (
        AutoTokenizer.from_pretrained(full),
        AutoTokenizer.from_pretrained(cut),
        read_json(cut / "kept_token_ids.json"),
    )


def test_writes_a_complete_model(full, cut, pair):
    old, new, kept = pair
    record, model = trimmed_from(cut), AutoModelForCausalLM.from_pretrained(cut, dtype="auto")
    source = AutoModelForCausalLM.from_pretrained(full, dtype="auto")
    assert (
        record["tokens_after"]
        == len(kept)
        == len(new)
        == model.config.vocab_size
        < record["tokens_before"]
        == len(old)
    )
    assert model.dtype == source.dtype
    assert torch.equal(model.get_input_embeddings().weight, source.get_input_embeddings().weight[kept])
    assert torch.equal(model.get_output_embeddings().weight, source.get_output_embeddings().weight[kept])
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == source.config.tie_word_embeddings
    width, rows = model.get_input_embeddings().weight.shape[1], source.get_input_embeddings().weight.shape[0]
    assert record["bytes_saved_fp16"] == 2 * (1 if tied else 2) * width * (rows - len(kept))
    for config, old_config in ((model.config, source.config), (model.generation_config, source.generation_config)):
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            ids, old_ids = getattr(config, key), getattr(old_config, key)
            assert (ids is None) == (old_ids is None)
            if isinstance(ids, list):
                assert [kept[number] for number in ids] == old_ids
            elif ids is not None:
                assert kept[ids] == old_ids
    assert (new.bos_token, new.eos_token, new.pad_token) == (old.bos_token, old.eos_token, old.pad_token)
    assert new.padding_side == "left" and new.model_max_length == old.model_max_length
    if old.chat_template:
        messages = [{"role": "user", "content": "Привет!"}]
        ids = new.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert [kept[i] for i in ids] == old.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert trimmed_from(full) is None and trimming_in_words(full) == ""
    assert f"from that of `{full}`, {len(new):,} of {len(old):,} tokens" in trimming_in_words(cut)


@pytest.mark.parametrize("trimmed", [True, False])
def test_the_card_of_a_run_mentions_a_trimmed_base(trimmed, full, cut, tmp_path):
    base = str(cut if trimmed else full)
    data = {"name": "pairs", "fingerprint": "0" * 16, "train_pairs": 1, "test_pairs": 1}
    write_json(tmp_path / "provenance.json", provenance(None, {"model_name_or_path": base}, data, seed=0))
    write_json(tmp_path / "test_log_probs.json", {"before": []})
    card = " ".join(model_card(tmp_path).split())
    note = f"The adapter was trained with a vocabulary trimmed from that of `{full.name}`"
    assert (note in card) == trimmed
    assert "Dataset: `pairs`" in card
    assert str(full.parent) not in card and str(cut.parent) not in card


# Any characters that are neither letters nor digits in Unicode, besides those of Russian texts.
SIGNS = st.characters(exclude_categories=("L", "N", "Cn", "Co", "Cs"))
RUSSIAN_TEXTS = st.text(
    st.one_of(st.sampled_from(sorted(RUSSIAN) + [*" ,.!?—«»№0123456789\n"] * 3), SIGNS), min_size=1
)


@settings(max_examples=200)
@given(text=RUSSIAN_TEXTS)
def test_any_russian_text_is_split_as_before(pair, text):
    old, new, kept = pair
    if any(character.isalnum() and character not in RUSSIAN and character not in "0123456789" for character in text):
        return  # such as circled letters, which Python calls letters and Unicode does not
    assert [kept[i] for i in new(text)["input_ids"]] == old(text)["input_ids"]


@settings(max_examples=100)
@given(text=st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_can_be_decoded_again(pair, text):
    old, new, _ = pair
    assert new.decode(new(text)["input_ids"]) == old.decode(old(text)["input_ids"])


def test_real_texts_are_split_as_before(pair, shared_data):
    old, new, kept = pair
    texts = [row["answer"] if "answer" in row else row["text"] for row in read_jsonl(shared_data / "oasst2_ru.jsonl")]
    texts += [row["completion"] for row in read_jsonl(shared_data / "lcb_ru_completions.jsonl")]
    russian = [text for text in texts if is_of_language(text, RUSSIAN)]
    assert len(russian) > 100
    for text in russian:
        assert [kept[i] for i in new(text)["input_ids"]] == old(text)["input_ids"], text


def test_the_check_measures(full, cut):
    texts = sample_texts()
    check = check_trimmed(full, cut, texts)
    assert check["texts"] == len(texts)
    assert check["of_language"] <= check["split_alike"] < len(texts)
    assert check["of_language"] == sum(is_of_language(text, RUSSIAN) for text in texts)
    assert check["tokens_per_word_before"] < check["tokens_per_word_after"]
    assert check["logit_difference"] < 1e-4
    assert check["logit_dtype"] == "float32"


@pytest.mark.parametrize("table", ["get_input_embeddings", "get_output_embeddings"])
def test_the_check_detects_wrong_rows(full, cut, table, tmp_path):
    broken = shutil.copytree(cut, tmp_path / "broken")
    model = AutoModelForCausalLM.from_pretrained(broken, dtype="auto")
    weight = getattr(model, table)().weight
    weight.data[[40, 41]] = weight.data[[41, 40]].clone()
    model.save_pretrained(broken)
    own_head = table == "get_output_embeddings" and not model.config.tie_word_embeddings
    with pytest.raises(PreferansError, match="differ by up to" if own_head else "rows of the trimmed embedding"):
        check_trimmed(full, broken, sample_texts()[:20])


def test_the_check_detects_a_missing_merge(full, cut, tmp_path):
    broken = shutil.copytree(cut, tmp_path / "broken")
    spec = read_json(broken / "tokenizer.json")
    spec["model"]["merges"] = spec["model"]["merges"][::2]
    spec["model"]["ignore_merges"] = False
    write_json(broken / "tokenizer.json", spec)
    with pytest.raises(PreferansError, match="split differently"):
        check_trimmed(full, broken, sample_texts()[:20])


def test_a_corpus_keeps_its_tokens(full, tmp_path):
    corpus = ["今天天气很好，我们去公园。", "What is the weather like today?"]
    small = trim_vocabulary(full, tmp_path / "small", "none", 0)
    larger = trim_vocabulary(full, tmp_path / "larger", "none", 0, corpus)
    assert small["tokens_after"] < larger["tokens_after"] < larger["tokens_before"]
    assert check_trimmed(full, tmp_path / "larger", [], corpus)["split_alike"] == 2
    with pytest.raises(PreferansError, match="split differently"):
        check_trimmed(full, tmp_path / "small", [], corpus)


def test_keeps_every_piece_of_a_kept_token(full):
    tokenizer = BpeTokenizer.of(AutoTokenizer.from_pretrained(full), "full")
    word = max((t for t in tokenizer.spec["model"]["vocab"] if not t.startswith("<")), key=lambda t: (len(t), t))
    kept = tokenizer.with_pieces({word})
    assert set(word) < kept
    added = {token["content"] for token in tokenizer.spec["added_tokens"]}
    cut, ids = tokenizer.cut(kept | added)
    assert len(cut.spec["model"]["merges"]) >= len(kept) - len(set(word))
    assert cut.with_pieces({word}) == kept  # the merges that are left build it the same way
    assert [tokenizer.numbers[token] for token in cut.numbers] == ids


def test_a_removed_script_falls_back_to_bytes(cut):
    tokenizer = AutoTokenizer.from_pretrained(cut)
    ids = tokenizer("你好", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "你好"
    assert all("\ufffd" in tokenizer.decode([number]) for number in ids)  # none is a whole character


def test_the_script(tmp_path, call_script, capsys):
    full, target = mixed.make_llama(tmp_path / "full"), tmp_path / "cut"
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("你好世界, how are you doing today?\n", encoding="utf-8")
    command = ["scripts/trim_vocab.py", full, "--output_dir", target]
    call_script(*command, "--corpus", corpus, "--latin_cutoff", 300)
    printed = capsys.readouterr().out
    record = trimmed_from(target)
    assert f"1,{record['tokens_before'] - 1000} before, {record['tokens_after']:,} after" in printed
    assert record["check"]["split_alike"] > 500 and record["corpus_texts"] == 1
    assert "all 1 of the corpus" in printed
    ids = AutoTokenizer.from_pretrained(target)("你好世界")["input_ids"]
    assert [read_json(target / "kept_token_ids.json")[i] for i in ids] == AutoTokenizer.from_pretrained(full)(
        "你好世界"
    )["input_ids"]


def make_unigram(folder):
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(folder)
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("а", -1.0)], unk_id=0))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


def test_rejects_mistakes(tmp_path, call_script, tiny_llama):
    def refused(model, *options):
        target = tmp_path / "out"
        with pytest.raises(PreferansError) as caught:
            call_script("scripts/trim_vocab.py", model, "--output_dir", target, *options)
        assert not target.exists()
        return str(caught.value)

    assert "nor a model that can be loaded from the Hub" in refused("nobody/nothing")
    assert "there is no such folder" in refused(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "it has no config.json" in refused(tmp_path / "empty")
    assert "the type Unigram" in refused(make_unigram(tmp_path / "unigram"))
    bare = shutil.copytree(mixed.make_gpt2(tmp_path / "gpt2"), tmp_path / "bare")
    for name in ("vocab.json", "merges.txt"):
        (bare / name).unlink()
    assert "it has no tokenizer" in refused(bare)
    assert "add texts in it with --corpus" in refused(tiny_llama, "--language", "de")
    assert "use --language none" in refused(tiny_llama, "--language", "rus")
    assert "at least 0" in refused(tiny_llama, "--latin_cutoff", "-1")
    assert "there is no such file" in refused(tiny_llama, "--corpus", tmp_path / "absent.txt")
    with pytest.raises(PreferansError, match="it exists already"):
        call_script("scripts/trim_vocab.py", tiny_llama, "--output_dir", tiny_llama)
    trim_vocabulary(tmp_path / "gpt2", tmp_path / "cut")
    assert "is already trimmed" in refused(tmp_path / "cut")
