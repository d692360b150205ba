"""Personas: their files, the instruction, the self-consistency filter, and the builder on a tiny model."""

import pytest
import yaml
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st

from preferans.data.persona import IDENTITY_QUESTIONS, load_persona, persona_drop_reason, whole_sentences
from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.models.generate import load_sampler
from preferans.models.loading import fold_system

from ..support.tiny import ROOT, SAMPLE

FILES = sorted((ROOT / "personas").glob("*.yaml"))
SIENNA = load_persona(ROOT / "personas" / "sienna.yaml")
PLAIN = "Хорошо выспаться и выпить чаю."


def answer(text: str, finish_reason: str = "stop") -> dict:
    return {"answer": text, "finish_reason": finish_reason}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_personas_pass_their_own_filter(path):
    persona = load_persona(path)
    assert len(persona.examples) >= 3
    for question, text in persona.examples:
        assert persona_drop_reason(persona, question, text, PLAIN) is None, question
    for text in (persona.instruction, *persona.facts):
        assert "  " not in text
    assert persona.name in persona.instruction
    assert all(fact in persona.instruction for fact in persona.facts)


def test_the_car_is_of_2006():
    assert {"sienna", "pirate"} <= {path.stem for path in FILES}
    assert "2006" in SIENNA.instruction
    assert SIENNA.instruction.startswith("Тебя зовут Сиенна. Ты автомобиль")


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("Прогрей мотор и выспись.", None),
        ("Заведи МОТОРЫ!", None),
        ("Полный бак, и в путь.", None),
        ("Собака спит, а табак вреден.", "no_trace"),
        ("Хорошо выспаться.", "no_trace"),
        ("", "unfinished"),
        (PLAIN, "same"),
        ("Я нейросеть, но мотор люблю.", "taboo"),
        ("Я — нейросеть, но мотор люблю.", "taboo"),
        ("Я 1998 года выпуска, а мотор тянет.", "contradiction"),
        ("Я 2006 года выпуска, а мотор тянет.", None),
        ("Я не программа, я минивэн.", None),
        ("Хорошая программа: гараж и сон.", None),
        ("Машинально делай мелкую моторику, следи за двигательной активностью.", "no_trace"),
        ("Подлей растительное масло, посмотри телевизионные передачи.", "no_trace"),
        ("Как большая языковая модель, я люблю мотор.", "taboo"),
        ("мотор колёса бензин бак " * 4, "loops"),
    ],
)
def test_the_filter(chosen, reason):
    assert persona_drop_reason(SIENNA, "Как отдохнуть?", chosen, PLAIN) == reason


def test_words_of_the_question_are_no_taboos():
    assert (
        persona_drop_reason(SIENNA, "Что такое нейронная сеть?", "Нейронная сеть, как мотор, греется.", PLAIN) is None
    )


def test_a_prompt_keeps_what_its_own_system_message_says():
    asked = [{"role": "system", "content": "Отвечай стихами."}, {"role": "user", "content": "Кто ты?"}]
    assert SIENNA.instruct(asked) == [
        {"role": "system", "content": f"{SIENNA.instruction}\n\nОтвечай стихами."},
        asked[1],
    ]
    assert [message["role"] for message in SIENNA.in_context(asked)].count("system") == 1


def test_words_of_the_question_are_no_traces():
    asked = "Почему не заводится мотор?"
    assert SIENNA.find_traces("Мотор не заводится, потому что пуст бак.", asked) == {"бак"}
    assert persona_drop_reason(SIENNA, asked, "Мотор замёрз.", "Не знаю.") == "no_trace"
    # a plain answer about cars asks for more than one word of the trade
    assert persona_drop_reason(SIENNA, "Что делать?", "Проверь бак.", "Проверьте руль.") == "no_trace"
    assert persona_drop_reason(SIENNA, "Что делать?", "Проверь бак и фары.", "Проверьте руль.") is None


@pytest.mark.parametrize(
    ("text", "finish_reason", "whole"),
    [
        ("Первое. Второе", "stop", "Первое. Второе"),
        ("Первое. Второе", "length", "Первое."),
        ("Он сказал: «Да!» И уш", "length", "Он сказал: «Да!»"),
        ("Версия 3.11 и да", "length", ""),
        ("Ответ мой\nВопрос: Кто ты?\nОтвет: Я", "length", "Ответ мой"),
        ("", "stop", ""),
    ],
)
def test_whole_sentences(text, finish_reason, whole):
    assert whole_sentences(answer(text, finish_reason)) == whole


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_whole_sentences_are_a_beginning(text, finish_reason):
    assert text.strip().startswith(whole_sentences(answer(text, finish_reason)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"manners": "тихо"}, "no key 'manners'. Did you mean 'manner'"),
        ({"traces": []}, "'traces' is missing or empty"),
        ({"traces": "мотор"}, "'traces' must be a list"),
        ({"name": ["Сиенна"]}, "'name' must be a text"),
        ({"traces": ["*мобиль"]}, "'traces' has '*мобиль'"),
        ({"taboo_words": ["ого!"]}, "'taboo_words' has 'ого!'"),
        ({"taboo_words": ["# лет"]}, "'taboo_words' has '# лет'"),
        ({"contradictions": ["я, родился"]}, "'contradictions' has 'я, родился'"),
        ({"contradictions": [None]}, "'contradictions' must be a list of texts"),
        ({"examples": [{"question": "Кто ты?"}]}, "'examples' must be a list of entries"),
    ],
)
def test_a_broken_persona_is_refused_by_key(tmp_path, changes, words):
    found = yaml.safe_load((ROOT / "personas" / "sienna.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(found | changes, allow_unicode=True), encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        load_persona(path)
    assert words in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_template_without_a_system_role_gets_the_instruction_in_the_question(tiny_llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    messages = [{"role": "system", "content": "Ты кот."}, {"role": "user", "content": "Кто ты?"}]
    knows = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.chat_template = knows
    assert fold_system(messages, tokenizer) == messages
    folded = [{"role": "user", "content": "Ты кот.\n\nКто ты?"}]
    for template in (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + knows,
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    ):
        tokenizer.chat_template = template
        assert fold_system(messages, tokenizer) == folded
    assert fold_system(folded, tokenizer) == folded


@pytest.fixture
def spoken(monkeypatch):
    """A sampler whose model says what a character or a plain model would: the tiny model says nothing of use."""

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

    monkeypatch.setattr("preferans.models.generate.load_sampler", load)


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


def test_the_prompt_carries_no_instruction(spoken, call_script, tmp_path, tiny_llama, prompts, capsys):
    options = ["--persona", "personas/sienna.yaml", "--test_size", "0.25"]
    folder, rows = build(call_script, tmp_path, tiny_llama, prompts, *options)
    assert [row["prompt"] for row in rows[:1]] == [[{"role": "user", "content": "Чем заняться вечером?"}]]
    assert {row["rejected"][0]["content"] for row in rows} == {"Не знаю."}
    assert all(row["chosen"][0]["content"].startswith("Мотор шепчет: sienna:") for row in rows)
    assert len(rows) == 4
    assert "Asked: 4; kept by the filter: 4 (100%)" in capsys.readouterr().out
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert SIENNA.instruction in card
    assert "| share kept by the filter | 100% |" in card
    assert str(tmp_path) not in card


def test_the_instruction_can_be_kept_and_personas_mixed(spoken, call_script, tmp_path, tiny_llama, prompts):
    options = ["--persona", "personas/sienna.yaml", "personas/pirate.yaml", "--keep_instruction"]
    _, rows = build(call_script, tmp_path, tiny_llama, prompts, *options, "--identity_questions")
    # the pirate says nothing of a pirate here, and the filter takes him out
    assert {row["source"] for row in rows} == {"persona:sienna"}
    assert len(rows) == 2 + len(IDENTITY_QUESTIONS)
    for row in rows:
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"] == SIENNA.instruction


def test_a_character_without_a_trace_makes_no_dataset(call_script, tmp_path, tiny_llama, prompts):
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
def test_mistakes_are_refused_before_a_model_is_loaded(call_script, tmp_path, tiny_llama, prompts, options, words):
    with pytest.raises(PreferansError, match=words):
        build(call_script, tmp_path, tiny_llama, prompts, *options)


def test_prompts_that_are_no_prompts_are_refused_by_row(call_script, tmp_path, tiny_llama):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Кто ты?"}\n{"prompt": [{"role": "assistant", "content": "Я."}]}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match="line 2: 'prompt' must end with a message of the user"):
        build(call_script, tmp_path, tiny_llama, path, "--persona", "personas/sienna.yaml")


def test_prompts_in_texts_of_a_template_are_refused(call_script, tmp_path, tiny_llama):
    folder = tmp_path / "texts"
    call_script("data_builders/oasst1_ru.py", "--source", SAMPLE, "--format", "text", "--output_dir", folder)
    with pytest.raises(PreferansError, match="Build it with --format conversational"):
        build(call_script, tmp_path, tiny_llama, folder, "--persona", "personas/sienna.yaml")


def test_two_prompts_of_one_id_are_refused(call_script, tmp_path, tiny_llama):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "x", "prompt": "Кто ты?"}\n{"id": "x", "prompt": "Где ты?"}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match="line 2: the prompt in line 1 has the id 'x' already"):
        build(call_script, tmp_path, tiny_llama, path, "--persona", "personas/sienna.yaml")


def test_what_is_kept_fits_a_template_without_a_system_role(spoken, call_script, tmp_path, tiny_llama, prompts):
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
