"""
Trim a model's vocabulary to a language and a corpus, so that embedding and head need less memory and time.

    python scripts/trim_vocab.py meta-llama/Llama-3.2-1B-Instruct --output_dir cache/llama1b-ru
    python scripts/trim_vocab.py cache/gemma-3-270m --output_dir cache/gemma-small --corpus data/oasst1_ru --latin_cutoff 5000
    python scripts/trim_vocab.py gpt2 --output_dir cache/gpt2-de --language none --latin_cutoff 0 --corpus german.txt

MODEL is a folder or a model on the Hub with a BPE tokenizer, such as Llama 3, Gemma, GPT-2 and Qwen. Special tokens, single bytes, tokens
in the letters of the language, punctuation, digits, frequent Latin, and all tokens of a corpus are kept. Texts of the language and of the
corpus are split into the same tokens as before; other texts can still be read and written, with more tokens. The result is a normal model
folder: set it as model_name_or_path in a recipe. An adapter trained on it also fits the full model, see scripts/merge.py.

Before the folder is created, texts are split by both tokenizers and some are run through both models; any difference is an error. This
needs memory for the full model in fp32, or in its stored precision if fp32 does not fit.
"""

import argparse
from pathlib import Path

from preferans.errors import PreferansError, help_first, run
from preferans.models.letters import LANGUAGES, LATIN_CUTOFF, letters_of


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder or Hub id of the full model")
    add("--output_dir", required=True, help="output folder, which must not exist yet")
    add(
        "--language",
        default="ru",
        metavar="LANGUAGE",
        help=f"language whose letters are kept: {', '.join(LANGUAGES)}; with none, only the corpus decides (default: %(default)s)",
    )
    add(
        "--corpus",
        action="append",
        default=[],
        metavar="TEXTS",
        help="texts that must be split as before: a .txt file with one text per line, or a dataset as folder, .jsonl, .json, .parquet or "
        "Hub id; can be repeated; required for every language except ru",
    )
    add(
        "--latin_cutoff",
        type=int,
        default=LATIN_CUTOFF,
        metavar="N",
        help="keep tokens of Latin letters and code with an id below N; 0 keeps single letters only (default: %(default)s)",
    )
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.corpus import read_texts
from preferans.files import entries, new_folder, read_jsonl, write_json
from preferans.models.trimmed import RECORD_NAME, trimmed_from
from preferans.models.vocabulary import check_trimmed, trim_vocabulary

SAMPLE = Path(__file__).parents[1] / "samples" / "oasst1_ru_sample.jsonl"


def main() -> None:
    args = PARSER.parse_args()
    output_dir = Path(args.output_dir)
    letters_of(args.language)
    if output_dir.exists() and (not output_dir.is_dir() or entries(output_dir)):
        raise PreferansError(f"--output_dir {output_dir}: it exists already. Name a new folder, or delete this one.")
    if args.latin_cutoff < 0:
        raise PreferansError(f"--latin_cutoff {args.latin_cutoff}: it must be at least 0.")
    if args.language != "ru" and not args.corpus:
        raise PreferansError(
            f"--language {args.language}: add texts in it with --corpus, on which the result is checked. For Russian the project has its own sample."
        )
    if trimmed_from(args.model):
        raise PreferansError(f"{args.model}: its vocabulary is already trimmed. Name the full model.")
    corpus = list(dict.fromkeys(text for name in args.corpus for text in read_texts(name)))
    texts = [row["text"] for row in read_jsonl(SAMPLE)] if args.language == "ru" else []

    with new_folder(output_dir) as folder:
        print("Trimming the vocabulary ...")
        record = trim_vocabulary(args.model, folder, args.language, args.latin_cutoff, corpus)
        print("Comparing with the full model ...")
        check = check_trimmed(args.model, folder, texts, corpus)
        write_json(folder / RECORD_NAME, record | {"check": check})
    print(
        f"Tokens:                    {record['tokens_before']:,} before, {record['tokens_after']:,} after\n"
        f"Embedding and head:        {record['bytes_saved_fp16'] / 2**20:,.0f} MiB less in fp16\n"
        f"Texts split as before:     {check['split_alike']:,} of {check['texts']:,}, among them all {check['of_language']:,} in the letters of "
        f"the language and all {len(corpus):,} of the corpus\n"
        f"Tokens per word:           {check['tokens_per_word_before']:.3f} before, {check['tokens_per_word_after']:.3f} after\n"
        f"Logits of kept tokens:     differ by at most {check['logit_difference']:.1e} ({check['logit_dtype']})\n"
        f"Forward pass on this CPU:  {check['speed']:.2f} times as fast\n"
        f"The model is in {output_dir}."
    )


if __name__ == "__main__":
    run(main)
