"""The builder of pairs in character, as a command with a tiny model."""

import pytest
from datasets import load_dataset

from preferans.data.persona import IDENTITY_QUESTIONS, load_persona
from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.models.load_samplers import load_sampler

from ..support.tiny import ROOT, SAMPLE

SIENNA = load_persona(ROOT / "personas" / "sienna.yaml")


@pytest.fixture
def scripted_sampler(monkeypatch):
    """Replace the sampler's answers by those of a character and of a plain model: the tiny model's answers are noise."""

    def load(args, chat=True):
        sampler = load_sampler(args, chat)

        def say(prompts, output, label=None):
            return [
                prompt
                | {
                    "answer": f"Мотор шепчет: {prompt['id']}." if len(prompt["prompt"]) > 2 else "Не знаю.",
                    "finish_reason": "stop",
                }
                for prompt in prompts
            ]

        sampler.answer = say
        return sampler

    monkeypatch.setattr("preferans.models.load_samplers.load_sampler", load)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    lines = ["Чем заняться вечером?", "Как сварить борщ?", "Почему небо голубое?", "Где зимуют раки?", ""]
    path.write_text("\n".join(lines * 2), encoding="utf-8-sig")
    return path


def build(call_script, tmp_path, tiny_llama, prompts, *options):
    folder = tmp_path / "pairs"
    call_script(
        "data_builders/persona_ru.py",
        *["--prompts", prompts, "--model_name_or_path", tiny_llama, "--use_cpu", "--output_dir", folder],
        *["--answers", tmp_path / "answers", *options],
    )
    splits = load_dataset(str(folder), cache_dir=str(tmp_path / "cache" / str(len(options))))
    return folder, [row for split in splits.values() for row in split.to_list()]


def test_the_prompt_has_no_instruction(scripted_sampler, call_script, tmp_path, tiny_llama, prompts, capsys):
    options = ["--persona", "personas/sienna.yaml", "--test_size", "0.25"]
    folder, rows = build(call_script, tmp_path, tiny_llama, prompts, *options)
    assert [row["prompt"] for row in rows[:1]] == [[{"role": "user", "content": "Чем заняться вечером?"}]]
    assert {row["rejected"][0]["content"] for row in rows} == {"Не знаю."}
    assert all(row["chosen"][0]["content"].startswith("Мотор шепчет: sienna:") for row in rows)
    assert len(rows) == 4
    assert "Prompts answered: 4; kept by the filter: 4 (100%)" in capsys.readouterr().out
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert SIENNA.instruction in card
    assert "| share kept by the filter | 100% |" in card
    assert str(tmp_path) not in card


def test_keeps_the_instruction_and_mixes_personas(scripted_sampler, call_script, tmp_path, tiny_llama, prompts):
    options = ["--persona", "personas/sienna.yaml", "personas/pirate.yaml", "--keep_instruction"]
    _, rows = build(call_script, tmp_path, tiny_llama, prompts, *options, "--identity_questions")
    # the pirate's answers show no trace of him, and the filter drops them
    assert {row["source"] for row in rows} == {"persona:sienna"}
    assert len(rows) == 2 + len(IDENTITY_QUESTIONS)
    for row in rows:
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"] == SIENNA.instruction


def test_answers_without_a_trace_make_no_dataset(call_script, tmp_path, tiny_llama, prompts):
    with pytest.raises(PreferansError, match="no answer is left, most often because"):
        build(call_script, tmp_path, tiny_llama, prompts, "--persona", "personas/pirate.yaml", "--max_new_tokens", "8")
    assert not (tmp_path / "pairs").exists()
    asked = read_jsonl(tmp_path / "answers_with.jsonl")[0]["prompt"]
    assert asked[0]["role"] == "system"
    assert asked[1]["content"] == "Как тебя зовут?"
    assert asked[-1]["content"] in {
        "Чем заняться вечером?",
        "Как сварить борщ?",
        "Почему небо голубое?",
        "Где зимуют раки?",
    }
    assert len(read_jsonl(tmp_path / "answers_without.jsonl")[0]["prompt"]) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--persona", "personas/siena.yaml"], "no such persona.*Did you mean.*sienna"),
        (["--persona", "personas/sienna.yaml", "personas/sienna.yaml"], "two files have the same name"),
        (["--persona", "personas/sienna.yaml", "--max_prompts", "0"], "--max_prompts 0"),
        (["--persona", "personas/*.yaml", "--temperature", "-1"], "--temperature -1"),
        (["--persona", "personas/sienna.yaml", "--top_p", "2"], "--top_p 2"),
        (["--persona", "personas/sienna.yaml", "--prompts", "absent.txt"], "there is no such file"),
    ],
)
def test_refuses_mistakes_before_a_model_is_loaded(call_script, tmp_path, tiny_llama, prompts, options, words):
    with pytest.raises(PreferansError, match=words):
        build(call_script, tmp_path, tiny_llama, prompts, *options)


def test_names_the_line_of_a_broken_prompt(call_script, tmp_path, tiny_llama):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Кто ты?"}\n{"prompt": [{"role": "assistant", "content": "Я."}]}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match="line 2: 'prompt' must end with a message of the user"):
        build(call_script, tmp_path, tiny_llama, path, "--persona", "personas/sienna.yaml")


def test_refuses_prompts_with_the_marks_of_a_template(call_script, tmp_path, tiny_llama):
    folder = tmp_path / "texts"
    call_script("data_builders/oasst1_ru.py", "--source", SAMPLE, "--format", "text", "--output_dir", folder)
    with pytest.raises(PreferansError, match="Build it with --format conversational"):
        build(call_script, tmp_path, tiny_llama, folder, "--persona", "personas/sienna.yaml")


def test_refuses_two_prompts_with_the_same_id(call_script, tmp_path, tiny_llama):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "x", "prompt": "Кто ты?"}\n{"id": "x", "prompt": "Где ты?"}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match="line 2: the prompt in line 1 already has the id 'x'"):
        build(call_script, tmp_path, tiny_llama, path, "--persona", "personas/sienna.yaml")


def test_a_kept_instruction_fits_a_template_without_a_system_role(
    scripted_sampler, call_script, tmp_path, tiny_llama, prompts
):
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "{{ m.content }}{{ eos_token }}{% endfor %}",
        encoding="utf-8",
    )
    options = ["--persona", "personas/sienna.yaml", "--keep_instruction", "--chat_template_path", template]
    rows = build(call_script, tmp_path, tiny_llama, prompts, *options)[1]
    assert [message["role"] for message in rows[0]["prompt"]] == ["user"]
    assert rows[0]["prompt"][0]["content"].startswith(SIENNA.instruction)
