"""The command `s3d`: verbs whose options are the fields of their config. Exit codes: 0 done, 2 wrong use or bad input,
1 our fault, 130 stopped by Ctrl-C.

Each verb is found by name and imported only when it is called, so that `s3d --help` answers at once.
"""

import dataclasses
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from s3d.config import read_values
from s3d.errors import ConfigError, S3DError
from s3d.progress import Progress


@dataclasses.dataclass(frozen=True)
class Verb:
    """Where a verb's config and function live, and what it is for."""

    config: str
    function: str
    help: str


VERBS: dict[str, Verb] = {
    "demo": Verb("s3d.demo.config:DemoConfig", "s3d.demo.run:demo", "the whole job on real data, ending in a report"),
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
    "models list": Verb("s3d.interop.config:ListConfig", "s3d.interop.run:list_models", "bundles of a folder"),
    "models show": Verb("s3d.interop.config:ShowConfig", "s3d.interop.run:show_model", "the card of a bundle"),
    "models import": Verb(
        "s3d.interop.config:ImportConfig", "s3d.interop.run:import_model", "an nnssl checkpoint becomes a bundle"
    ),
    "doctor": Verb("s3d.doctor:DoctorConfig", "s3d.doctor:doctor", "check this machine, and golden files"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = _verb_of(words)
    if name is None:
        return _usage(words)
    verb = VERBS[name]
    console = Console(stderr=True)
    try:
        config = parse(name, words[len(name.split()) :])
        with closing(_progress(config, console)) as progress:
            try:
                result = _load(verb.function)(config, progress)
            except S3DError as error:
                progress.error(error.code, str(error))
                raise
    except S3DError as error:
        console.print(f"[bold red]s3d {name}:[/bold red] ", end="")
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    except KeyboardInterrupt:
        console.print(f"s3d {name}: stopped.")
        return 130
    except Exception:
        console.print(traceback.format_exc(), markup=False, highlight=False)
        console.print(f"s3d {name}: this is our fault. Please report it with the lines above.")
        return 1
    if result is not None:
        print(result)
    return 0


def parse(name: str, words: Sequence[str]) -> Any:
    """The verb's config from its command line; `--config FILE` gives values that options then override."""
    kind = _load(VERBS[name].config)
    rest, file = _take_option(list(words), "--config")
    default = None if file is None else _unfinished(kind, read_values(kind, Path(file)))
    return tyro.cli(
        kind,
        prog=f"s3d {name}",
        description=f"{VERBS[name].help.capitalize()}.",
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
    """The list of verbs; exit code 0 when asked for, 2 after an unknown verb."""
    lines = [f"  {name:<14} {verb.help}" for name, verb in VERBS.items()]
    text = "\n".join(
        [
            "usage: s3d VERB [options]   (s3d VERB --help lists them; --config FILE.json reads them)",
            "",
            *lines,
            "",
            "For research use only, not a medical device.",
        ]
    )
    asked = not words or words[0] in ("-h", "--help")
    print(text, file=sys.stdout if asked else sys.stderr)
    if not asked:
        print(f"\ns3d: there is no verb {words[0]!r}.", file=sys.stderr)
    return 0 if asked else 2


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _progress(config: Any, console: Console) -> Progress:
    """Long runs keep their events in their folder; of several processes (torchrun) only the first reports."""
    if os.environ.get("RANK", "0") != "0":
        return Progress()
    return Progress(config.output / "events.jsonl" if getattr(config, "keeps_events", False) else None, console)


def _take_option(words: list[str], option: str) -> tuple[list[str], str | None]:
    if option not in words:
        return words, None
    place = words.index(option)
    if place + 1 >= len(words):
        raise ConfigError(f"{option} needs the path of a JSON file after it.")
    return words[:place] + words[place + 2 :], words[place + 1]


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
