"""
Publish a run, a dataset, a merged model or answers on the Hub, and verify the upload.

    python scripts/publish.py runs/llama1b_ru --repo_id YOU/Llama-3.2-1B-ru --report reports/llama1b_ru
    python scripts/publish.py data/oasst1_ru --repo_id YOU/oasst1-ru-preferences
    python scripts/publish.py models/llama1b_ru --repo_id YOU/Llama-3.2-1B-ru-merged --public
    python scripts/publish.py answers/llama1b_after.jsonl --repo_id YOU/llama1b-ru-answers
    python scripts/publish.py runs/llama1b_ru --repo_id YOU/Llama-3.2-1B-ru --dry_run

Sign in first (hf auth login) with a token that has write access. The repository is private unless --public is given. For a run, this uploads the
adapter, its tokenizer, provenance, figures and a card; checkpoints, optimizer states and pickled arguments are not uploaded. All files are searched
for access tokens first. The upload is one commit. It is retried when the Hub is busy; after a stop, the same command resumes and uploads nothing
twice. Then everything is downloaded again and compared.
"""

import argparse

from preferans.errors import help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("source", metavar="RUN|DATASET|MODEL|ANSWERS", help="folder, or file of answers, to publish")
    add("--repo_id", required=True, help="name on the Hub: NAMESPACE/NAME")
    add(
        "--report",
        metavar="FOLDER",
        help="folder written by scripts/score.py: is uploaded too, with its figures in the card",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--private", action="store_true", help="visible to you and to those you invite (the default)")
    who.add_argument("--public", action="store_true", help="visible to everyone")
    add(
        "--collection",
        metavar="TITLE",
        help="also add it to your collection with this title, which is created if needed",
    )
    add(
        "--dry_run",
        action="store_true",
        help="list the files and show the card; nothing is uploaded and no token is needed",
    )
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.hub_names import check_repo_id
from preferans.release.bundle import REPO_TYPES, contents, kind_of, pack, publish, warnings_for
from preferans.release.hub import add_to_collection, check_can_push


def main() -> None:
    args = PARSER.parse_args()

    check_repo_id(args.repo_id)
    repo_type = REPO_TYPES[kind_of(args.source)]
    if not args.dry_run:
        check_can_push(args.repo_id, repo_type, private=not args.public)
    with pack(args.source, args.repo_id, args.report) as parcel:
        for warning in warnings_for(parcel, args.repo_id):
            print(f"*** {warning} ***")
        if args.dry_run:
            print(
                f"Would be uploaded to {args.repo_id}, a {'public' if args.public else 'private'} {repo_type}:\n{contents(parcel)}"
            )
            print(f"\nThe card:\n\n{parcel.card}")
            return
        print(
            f"{len(parcel.files)} files for {args.repo_id}, a {'public' if args.public else 'private'} {repo_type}:\n{contents(parcel)}"
        )
        done = publish(parcel, args.repo_id, private=not args.public)
    what = f"{len(done.uploaded)} files uploaded" if done.uploaded else "nothing to upload, all files were there"
    if done.removed:
        print(f"Files of an earlier version, removed: {', '.join(done.removed)}. The repository's history keeps them.")
    print(f"{what}; downloaded again and equal. Commit {done.commit[:12]}: {done.address}")
    if args.collection:
        print(
            f"Added to the collection {add_to_collection(args.repo_id, repo_type, args.collection, private=not args.public)}"
        )


if __name__ == "__main__":
    run(main)
