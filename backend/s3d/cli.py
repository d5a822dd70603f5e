"""The command `s3d`: verbs whose options are the fields of their config. Exit codes: 0 done, 2 wrong use or bad input,
1 our fault, 130 stopped by Ctrl-C.

Each verb is found by name and imported only when it is called, so that `s3d --help` answers at once.
"""

import dataclasses
import importlib
import importlib.metadata
import itertools
import os
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, get_type_hints

import tyro
from rich.console import Console
from rich.text import Text

from s3d.config import is_mapping, read_values
from s3d.errors import ConfigError, OutOfMemoryError, S3DError, StorageError
from s3d.progress import Progress

_READER_GONE = 128 + 13
"""What a shell reports of a program that SIGPIPE ends."""


@dataclasses.dataclass(frozen=True)
class Verb:
    """Where a verb's config and function live, and what it is for."""

    config: str
    function: str
    help: str


VERBS: dict[str, Verb] = {
    "demo": Verb("s3d.demo.config:DemoConfig", "s3d.demo.run:demo", "the whole job in minutes, ending in a report"),
    "catalog": Verb(
        "s3d.preparation.config:CatalogConfig", "s3d.preparation.run:catalog", "list unlabelled images and filter them"
    ),
    "preprocess": Verb(
        "s3d.preparation.config:PreprocessConfig", "s3d.preparation.run:preprocess", "make a store for pre-training"
    ),
    "pretrain": Verb(
        "s3d.pretraining.config:PretrainConfig", "s3d.pretraining.run:pretrain", "self-supervised pre-training (S3D)"
    ),
    "finetune": Verb("s3d.finetuning.config:FinetuneConfig", "s3d.finetuning.run:finetune", "train on labelled cases"),
    "segment": Verb("s3d.inference.config:SegmentConfig", "s3d.inference.run:segment", "segment a case or a folder"),
    "evaluate": Verb(
        "s3d.evaluation.config:EvaluateConfig", "s3d.evaluation.run:evaluate", "score segmentations against labels"
    ),
    "models list": Verb("s3d.interop.config:ListConfig", "s3d.interop.run:list_models", "list the bundles of a folder"),
    "models show": Verb("s3d.interop.config:ShowConfig", "s3d.interop.run:show_model", "show the card of a bundle"),
    "models import": Verb(
        "s3d.interop.config:ImportConfig", "s3d.interop.run:import_model", "make a bundle of an nnssl checkpoint"
    ),
    "doctor": Verb("s3d.doctor:DoctorConfig", "s3d.doctor:doctor", "check this machine, and golden files"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"s3d {importlib.metadata.version('s3d-backend')}")
        return 0
    name = _verb_of(words)
    try:
        code = _usage(words) if name is None else _run(name, words[len(name.split()) :])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as in `s3d finetune --help | head`; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return code


def _run(name: str, words: Sequence[str]) -> int:
    """Every way a verb can end, as an exit code; what went wrong is said on the error stream."""
    console = Console(stderr=True)
    try:
        result = _call(name, words, console)
    except S3DError as error:
        _say(console, name, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say(console, name, "stopped.")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if _load("s3d.training.device:is_out_of_memory")(error):
            _say(console, name, "Memory ran out. Close other programs, or use a machine with more memory.")
            return OutOfMemoryError.exit_code
        console.print(traceback.format_exc(), markup=False, highlight=False)
        _say(console, name, "this is our fault. Please report it with the lines above.")
        return 1
    if result is not None and _is_first_process():
        print(result)
    return 0


def _call(name: str, words: Sequence[str], console: Console) -> Any:
    config = parse(name, words)
    with closing(_progress(config, console)) as progress:
        try:
            return _load(VERBS[name].function)(config, progress)
        except S3DError as error:
            with suppress(StorageError):  # the first error is the one to be told
                progress.error(error.code, str(error))
            raise


def _say(console: Console, name: str, sentence: str) -> None:
    """Outside a terminal nothing is wrapped: a path stays in one piece."""
    console.print(Text.assemble((f"s3d {name}: ", "bold red"), sentence), soft_wrap=not console.is_terminal)


def parse(name: str, words: Sequence[str]) -> Any:
    """The verb's config from its command line; `--config FILE` gives values that options then override."""
    kind = _load(VERBS[name].config)
    rest, file = _take_option(list(words), "--config")
    _refuse_names_given_twice(kind, rest)
    default = None if file is None else _unfinished(kind, read_values(kind, Path(file)))
    return tyro.cli(
        kind,
        prog=f"s3d {name}",
        description=f"{VERBS[name].help[0].upper()}{VERBS[name].help[1:]}.",
        args=rest,
        default=default,
        config=(tyro.conf.AvoidSubcommands,),
    )


def _verb_of(words: Sequence[str]) -> str | None:
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name
    return None


def _usage(words: Sequence[str]) -> int:
    """The list of verbs, or of those that begin alike (`s3d models`); exit code 2 after an unknown verb."""
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in VERBS) else ""
    rest = words[1:] if group else words
    lines = [f"  {name:<14} {verb.help}" for name, verb in VERBS.items() if name.startswith(group)]
    text = "\n".join(
        [
            "usage: s3d VERB [options]   (s3d VERB --help lists them; --config FILE.json reads them)",
            "",
            *lines,
            "",
            "For research use only, not a medical device.",
        ]
    )
    asked = not rest or rest[0] in ("-h", "--help")
    print(text, file=sys.stdout if asked else sys.stderr)
    if not asked:
        print(f"\ns3d: there is no verb {f'{group} {rest[0]}'.strip()!r}.", file=sys.stderr)
    return 0 if asked else 2


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _progress(config: Any, console: Console) -> Progress:
    """Long runs keep their events in their folder; of several processes (torchrun) only the first reports."""
    if not _is_first_process():
        return Progress()
    return Progress(config.output / "events.jsonl" if getattr(config, "keeps_events", False) else None, console)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _take_option(words: list[str], option: str) -> tuple[list[str], str | None]:
    """The words without `option VALUE` or `option=VALUE`, and the value."""
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == option), None)
    if place is None:
        return words, None
    _, joined, value = words[place].partition("=")
    taken = words[place : place + (1 if joined else 2)]
    if not value and len(taken) < 2:
        raise ConfigError(f"{option} needs the path of a JSON file after it.")
    return words[:place] + words[place + len(taken) :], value or taken[1]


def _refuse_names_given_twice(kind: type, words: Sequence[str]) -> None:
    """Raise ConfigError for `--labels A 1 A 2`: of two values for one name the last would win, silently."""
    for field, hint in get_type_hints(kind).items():
        option = f"--{field.replace('_', '-')}"
        if not is_mapping(hint) or option not in words:
            continue
        given = words[words.index(option) + 1 :]
        names = list(itertools.takewhile(lambda word: not word.startswith("--"), given))[::2]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"{option} names {twice[0]!r} twice; give each name once.")


def _unfinished(kind: type, values: dict[str, Any]) -> Any:
    """An instance that has not checked itself yet: what the file leaves out may still come as an option."""
    instance: Any = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(instance, field.name, values.get(field.name, _default(field)))
    return instance


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return tyro.MISSING if field.default_factory is dataclasses.MISSING else field.default_factory()


if __name__ == "__main__":
    sys.exit(main())
