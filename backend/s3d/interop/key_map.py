"""Parameter names here and in dynamic-network-architectures, nnU-Net and nnssl (method.md sections 0.3 and 8).

There each convolution and norm is registered twice (`conv` and `all_modules.0`, `norm` and `all_modules.1`) and the
decoder holds the encoder once more. Here nothing exists twice. Of the official pair only all_modules is used by the
official network; in S3D checkpoints of nnssl the other one was never trained.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_UNIT = re.compile(r"^(?P<unit>.+)\.(?P<part>conv|norm)\.(?P<kind>weight|bias)$")
_ALIAS = re.compile(r"^(?P<unit>.+)\.all_modules\.(?P<index>[01])\.(?P<kind>weight|bias)$")
_PARTS = ("conv", "norm")
_WRAPPERS = frozenset({"module", "_orig_mod"})
_DUPLICATE = "decoder.encoder."


def with_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All official names, in the official order, for a state of this package; tensors are shared, not copied."""
    encoder = {name: value for name, value in state.items() if name.startswith("encoder.")}
    rest = {name: value for name, value in state.items() if name not in encoder}
    official = dict(_doubled(encoder))
    official.update({f"decoder.{name}": value for name, value in official.items()})
    official.update(_doubled(rest))
    return official


def without_aliases(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A state under this package's names, and the names whose official pair held different values.

    Wrappers' prefixes (module., _orig_mod., architecture.) go, decoder.encoder.* is dropped, of a pair all_modules is
    taken. Names it does not know pass unchanged.
    """
    trained: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}
    for name, value in _unwrapped(state):
        alias = _ALIAS.match(name)
        if alias:
            trained[f"{alias['unit']}.{_PARTS[int(alias['index'])]}.{alias['kind']}"] = value
        else:
            plain[name] = value
    differing = [name for name in plain if name in trained and not torch.equal(plain[name], trained[name])]
    return {**plain, **trained}, differing


def _doubled(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each unit's parameters under conv and norm first, then under all_modules."""
    pending: dict[str, Tensor] = {}
    current = None
    for name, value in state.items():
        match = _UNIT.match(name)
        if match is None or match["unit"] != current:
            yield from pending.items()
            pending, current = {}, match["unit"] if match else None
        yield name, value
        if match:
            pending[f"{match['unit']}.all_modules.{_PARTS.index(match['part'])}.{match['kind']}"] = value
    yield from pending.items()


def _unwrapped(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        parts = [part for part in name.split(".") if part not in _WRAPPERS]
        bare = ".".join(parts[1:] if parts[0] == "architecture" else parts)
        if not bare.startswith(_DUPLICATE):
            yield bare, value
