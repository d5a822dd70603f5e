"""A Hugging Face hub on this machine, and checkpoints as nnssl writes them."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from s3d.interop.key_map import with_aliases
from s3d.models.presets import Architecture
from s3d.models.spark import SparkAutoencoder

ARCHITECTURE = Architecture(features=(4, 6, 8, 8), blocks=(1, 2, 2, 2), decoder_convs=(1, 1, 1))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """Files by repository and path; every request is remembered."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    breaks_after: int | None = None
    """Bytes of a file after which the connection is cut."""


class _Handler(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs: HEAD and GET of /OWNER/NAME/resolve/REVISION/PATH."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        owner, name, verb, revision, *path = self.path.strip("/").split("/")
        files = self.hub.files.get(f"{owner}/{name}")
        if files is None or verb != "resolve":
            self._refuse("RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse("RevisionNotFound")
        elif "/".join(path) not in files:
            self._refuse("EntryNotFound")
        else:
            body = files["/".join(path)]
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[: self.hub.breaks_after])
                self.close_connection = self.hub.breaks_after is not None

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Requests are remembered, not printed."""


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LoopbackHub]:
    """An empty hub at HF_ENDPOINT, with an empty cache on this side."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def trained() -> dict[str, torch.Tensor]:
    """Weights of a small S3D network, under this package's names; none has its initial value."""
    generator = torch.Generator().manual_seed(1)
    state = SparkAutoencoder(ARCHITECTURE).state_dict()
    return {name: torch.randn(value.shape, generator=generator) / 8 for name, value in state.items()}


@pytest.fixture
def s3d_checkpoint(trained) -> dict[str, object]:
    """As nnssl's S3D trainer saves it: in the encoder the copies called conv and norm were never trained."""
    unet = {name: value for name, value in trained.items() if name.startswith(("encoder.", "decoder."))}
    official = with_aliases(unet)
    generator = torch.Generator().manual_seed(0)
    for name, value in official.items():
        if "encoder." in name and name.removeprefix("decoder.") in unet:
            official[name] = torch.randn(value.shape, generator=generator)
    spark = {f"architecture.{name}": value for name, value in official.items()} | official
    spark |= {name: value for name, value in trained.items() if name not in unet}
    return {
        "network_weights": official,
        "spark_weights": spark,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "logging": {"train_losses": [1.0, 0.5]},
        "current_epoch": 1000,
        "init_args": {"plan": {}, "configuration_name": "onemmiso"},
        "trainer_name": "VariableSparkMAETrainer_BS8",
    }


def small_plan(**changes: object) -> dict[str, object]:
    """An adaptation plan as nnssl writes it, for the small network."""
    options = {
        "n_stages": 4,
        "features_per_stage": [4, 6, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 4,
        "strides": [1, 2, 2, 2],
        "n_blocks_per_stage": [1, 2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "nonlin": "torch.nn.LeakyReLU",
    }
    return {
        "architecture_plans": {
            "arch_class_name": "ResidualEncoderUNet",
            "arch_kwargs": options | changes,
            "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"],
        },
        "pretrain_plan": {
            "dataset_name": "Dataset745_OpenMind",
            "configurations": {"onemmiso": {"spacing": [1, 1, 1], "spacing_style": "onemmiso"}},
        },
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": [96, 128, 96],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
        "trainer_name": "VariableSparkMAETrainer_BS8",
    }


@pytest.fixture
def plan() -> dict[str, object]:
    """The plan of s3d_checkpoint."""
    return small_plan()
