import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from preferans.data.chat_template import fold_system
from preferans.data.persona import load_persona, persona_drop_reason, whole_sentences
from preferans.errors import PreferansError

from ..support.tiny import ROOT

FILES = sorted((ROOT / "personas").glob("*.yaml"))


SIENNA = load_persona(ROOT / "personas" / "sienna.yaml")


PLAIN = "Хорошо выспаться и выпить чаю."


def answer(text: str, finish_reason: str = "stop") -> dict:
    return {"answer": text, "finish_reason": finish_reason}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_personas_pass_their_own_filter(path):
    persona = load_persona(path)
    assert len(persona.examples) >= 3
    for example in persona.examples:
        assert persona_drop_reason(persona, example.question, example.answer, PLAIN) is None, example.question
    for text in (persona.instruction, *persona.facts):
        assert "  " not in text
    assert persona.name in persona.instruction
    assert all(fact in persona.instruction for fact in persona.facts)


def test_the_shipped_personas_are_there():
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
def test_the_filter_drops_answers_that_break_the_character(chosen, reason):
    assert persona_drop_reason(SIENNA, "Как отдохнуть?", chosen, PLAIN) == reason


def test_words_of_the_question_do_not_break_a_taboo():
    assert (
        persona_drop_reason(SIENNA, "Что такое нейронная сеть?", "Нейронная сеть, как мотор, греется.", PLAIN) is None
    )


def test_the_instruction_keeps_the_prompts_own_system_message():
    asked = [{"role": "system", "content": "Отвечай стихами."}, {"role": "user", "content": "Кто ты?"}]
    assert SIENNA.instruct(asked) == [
        {"role": "system", "content": f"{SIENNA.instruction}\n\nОтвечай стихами."},
        asked[1],
    ]
    assert [message["role"] for message in SIENNA.in_context(asked)].count("system") == 1


def test_words_of_the_question_are_not_traces():
    asked = "Почему не заводится мотор?"
    assert SIENNA.find_traces("Машина должна быть надёжной.", "Как выбрать машину?") == set()
    assert SIENNA.find_traces("Мотор не заводится, потому что пуст бак.", asked) == {"бак"}
    assert persona_drop_reason(SIENNA, asked, "Мотор замёрз.", "Не знаю.") == "no_trace"
    # if the plain answer has a trace, one trace is not enough
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
def test_keeps_whole_sentences(text, finish_reason, whole):
    assert whole_sentences(answer(text, finish_reason)) == whole


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_whole_sentences_are_the_beginning_of_the_answer(text, finish_reason):
    assert text.strip().startswith(whole_sentences(answer(text, finish_reason)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"manners": "тихо"}, "the key 'manners' is unknown. Did you mean 'manner'"),
        ({"traces": []}, "'traces' is empty"),
        ({"traces": "мотор"}, "'traces' must be a list"),
        ({"name": ["Сиенна"]}, "'name' must be text"),
        ({"traces": ["*мобиль"]}, "'traces', item 1 is '*мобиль'"),
        ({"taboo_words": ["ого!"]}, "'taboo_words', item 1 is 'ого!'"),
        ({"taboo_words": ["# лет"]}, "'taboo_words', item 1 is '# лет'"),
        ({"contradictions": ["я, родился"]}, "'contradictions', item 1 is 'я, родился'"),
        ({"contradictions": [None]}, "'contradictions', item 1 must be text, got None"),
        ({"examples": [{"question": "Кто ты?"}]}, "'examples', item 1, 'answer' is missing"),
    ],
)
def test_names_the_key_of_a_broken_persona(tmp_path, changes, words):
    keys = yaml.safe_load((ROOT / "personas" / "sienna.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(keys | changes, allow_unicode=True), encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        load_persona(path)
    assert words in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_template_without_a_system_role_gets_the_instruction_in_the_question(tiny_llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    messages = [{"role": "system", "content": "Ты кот."}, {"role": "user", "content": "Кто ты?"}]
    with_system = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.chat_template = with_system
    assert fold_system(messages, tokenizer) == messages
    folded = [{"role": "user", "content": "Ты кот.\n\nКто ты?"}]
    for template in (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + with_system,
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    ):
        tokenizer.chat_template = template
        assert fold_system(messages, tokenizer) == folded
    assert fold_system(folded, tokenizer) == folded
