import numpy as np
import pytest
import torch
from torch import nn

from s3d.data.image_files import Grid, Volume
from s3d.errors import BundleError, OutOfMemoryError
from s3d.inference.network import network_of
from s3d.inference.predictor import Predictor
from s3d.inference.sliding_window import predict_windows
from s3d.progress import Progress, read_events
from s3d.training.device import Device

CPU = Device(torch.device("cpu"), "fp32")
UNTOUCHED = {"orientation": "as_stored", "spacing_mm": None, "normalization": "none"}
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def volume_of(voxels: np.ndarray, spacing_mm=(1.0, 1.0, 1.0)) -> Volume:
    return Volume(voxels, Grid(voxels.shape[1:], spacing_mm, (5.0, -3.0, 8.0), IDENTITY))


def test_labels_are_the_bundles_values_of_the_largest_logit(make_bundle, noise):
    bundle = make_bundle(**UNTOUCHED)
    result = Predictor(bundle, CPU).segment(volume_of(noise))
    logits = predict_windows(network_of(bundle), torch.from_numpy(noise), (8, 8, 8))
    np.testing.assert_array_equal(result.labels, np.array([0, 7, 300])[logits.argmax(0).numpy()])
    assert set(np.unique(result.labels)) == {0, 7, 300}
    assert result.probabilities is None
    assert result.notes == ()


def test_the_result_lies_on_the_grid_given(make_bundle, noise):
    volume = volume_of(noise, spacing_mm=(2.0, 0.9, 1.3))
    result = Predictor(make_bundle(), CPU).segment(volume, probabilities=True)
    assert result.grid == volume.grid
    assert result.labels.shape == volume.grid.shape
    assert result.probabilities.shape == (3, *volume.grid.shape)


def test_probabilities_sum_to_one_and_their_largest_is_the_label(make_bundle, noise):
    result = Predictor(make_bundle(), CPU).segment(volume_of(noise, spacing_mm=(2.0, 0.9, 1.3)), probabilities=True)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.array([0, 7, 300])[result.probabilities.argmax(axis=0)], result.labels)


def test_earlier_volumes_do_not_change_later_ones(make_bundle, noise):
    predictor = Predictor(make_bundle(), CPU)
    alone = predictor.segment(volume_of(noise)).labels
    predictor.segment(volume_of(noise[:, ::-1] * 3 + 1))
    np.testing.assert_array_equal(predictor.segment(volume_of(noise)).labels, alone)


def test_the_batch_size_does_not_change_the_result(make_bundle, noise):
    one = Predictor(make_bundle(), CPU, batch_size=1).segment(volume_of(noise), probabilities=True)
    many = Predictor(make_bundle(), CPU, batch_size=7).segment(volume_of(noise), probabilities=True)
    np.testing.assert_allclose(many.probabilities, one.probabilities, rtol=0, atol=1e-5)


def probabilities(bundle, noise, **options) -> np.ndarray:
    return Predictor(bundle, CPU, **options).segment(volume_of(noise), probabilities=True).probabilities


def test_mirroring_happens_only_when_asked_and_only_along_the_allowed_axes(make_bundle, noise):
    allowed, forbidden = make_bundle(mirror_axes=(1,), **UNTOUCHED), make_bundle(**UNTOUCHED)
    plain = probabilities(forbidden, noise)
    np.testing.assert_array_equal(probabilities(allowed, noise), plain)
    np.testing.assert_array_equal(probabilities(forbidden, noise, mirror=True), plain)
    mirrored = probabilities(allowed, noise, mirror=True)
    assert np.abs(mirrored - plain).max() > 0.01
    logits = predict_windows(network_of(allowed), torch.from_numpy(noise), (8, 8, 8), mirror_axes=(1,))
    np.testing.assert_allclose(mirrored, logits.softmax(0).numpy(), rtol=0, atol=1e-6)


def test_mirroring_that_the_model_forbids_is_noted(make_bundle, noise):
    notes = Predictor(make_bundle(), CPU, mirror=True).segment(volume_of(noise)).notes
    assert notes == ("The model allows mirroring along no axis, so no mirrored copies were averaged.",)


def test_an_image_smaller_than_the_window_is_padded_and_noted(make_bundle, noise):
    result = Predictor(make_bundle(patch_size=(8, 16, 8)), CPU).segment(volume_of(noise))
    assert result.labels.shape == (12, 10, 14)
    assert result.notes == (
        "The image is 12 x 10 x 14 voxels on the model's grid, smaller than the window of 8 x 16 x 8; "
        "it was padded with zeros.",
    )


def test_a_wrong_number_of_channels_names_both_numbers(make_bundle, noise):
    with pytest.raises(BundleError, match=r"has 1 channel, but model 'toy' takes 2 \(T1, FLAIR\)\. Give exactly"):
        Predictor(make_bundle(("T1", "FLAIR")), CPU).segment(volume_of(noise))
    with pytest.raises(BundleError, match=r"has 2 channels, but model 'toy' takes 1 \(T1\)"):
        Predictor(make_bundle(), CPU).segment(volume_of(np.concatenate([noise, noise])))


def test_channels_go_in_in_the_bundles_order(make_bundle, noise):
    two = np.concatenate([noise, noise[:, ::-1] ** 2])
    bundle = make_bundle(("T1", "FLAIR"), **UNTOUCHED)
    logits = predict_windows(network_of(bundle), torch.from_numpy(two), (8, 8, 8))
    labels = Predictor(bundle, CPU).segment(volume_of(two)).labels
    np.testing.assert_array_equal(labels, np.array([0, 7, 300])[logits.argmax(0).numpy()])


class Hungry(nn.Module):
    """Fails for want of memory off the CPU, with more than one window at a time, or with too large a window."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest
        self.tried: list[tuple[str, int, int]] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.tried.append((windows.device.type, len(windows), windows.shape[2]))
        if windows.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if len(windows) > 1 or windows.shape[2] > self.largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")
        return torch.zeros(len(windows), 3, *windows.shape[2:])


# torch's meta device stands in for a GPU: it holds no data, so nothing there can succeed
GPU = Device(torch.device("meta"), "fp32")


def test_short_of_memory_everything_ends_on_the_cpu_and_each_step_is_announced(
    make_bundle, use_network, noise, tmp_path
):
    network = Hungry(largest=8)
    use_network(network)
    progress = Progress(tmp_path / "events.jsonl")
    predictor = Predictor(make_bundle(), GPU, batch_size=4, progress=progress)
    result = predictor.segment(volume_of(noise))
    # batch 4, batch 1, batch 1 with the sums outside, then the CPU
    assert network.tried[:4] == [("meta", 4, 8), ("meta", 1, 8), ("meta", 1, 8), ("cpu", 1, 8)]
    progress.close()
    warnings = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "warning"]
    assert tuple(event["message"] for event in warnings) == result.notes
    assert {event["code"] for event in warnings} == {"E_MEMORY"}
    assert len(result.notes) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_cpu_as_a_last_resort_computes_in_full_precision(make_bundle, monkeypatch, precision):
    monkeypatch.setattr("s3d.training.device.cpu_has_bf16", lambda: True)
    assert Predictor(make_bundle(), Device(torch.device("meta"), precision))._on_the_cpu().precision == "fp32"


def test_the_next_case_starts_at_the_top_of_the_ladder_again(make_bundle, use_network, noise):
    network = Hungry(largest=8)
    use_network(network)
    predictor = Predictor(make_bundle(), GPU, batch_size=4)
    predictor.segment(volume_of(noise))
    network.tried.clear()
    predictor.segment(volume_of(noise))
    assert network.tried[0] == ("meta", 4, 8)


def test_a_smaller_window_needs_permission(make_bundle, use_network, noise):
    use_network(Hungry(largest=4))
    with pytest.raises(OutOfMemoryError, match=r"one window of 8 x 8 x 8 voxels on cpu.*allow_smaller_window"):
        Predictor(make_bundle(), CPU).segment(volume_of(noise))


def test_a_smaller_window_is_used_last_and_the_result_says_so(make_bundle, use_network, noise):
    network = Hungry(largest=4)
    use_network(network)
    result = Predictor(make_bundle(), CPU, batch_size=2, allow_smaller_window=True).segment(volume_of(noise))
    assert network.tried[:3] == [("cpu", 2, 8), ("cpu", 1, 8), ("cpu", 1, 4)]
    assert "4 x 4 x 4 voxels instead of 8 x 8 x 8" in result.notes[-1]
    assert "differs" in result.notes[-1]


def test_an_error_of_the_network_is_not_hidden(make_bundle, use_network, noise):
    class Broken(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    use_network(Broken())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Predictor(make_bundle(), CPU).segment(volume_of(noise))


def test_lack_of_memory_outside_the_network_is_one_sentence_too(make_bundle, noise, monkeypatch):
    def restore(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr("s3d.inference.predictor.restore_labels", restore)
    with pytest.raises(OutOfMemoryError, match=r"between the image's 12 x 10 x 14 voxels and the model's grid\. Close"):
        Predictor(make_bundle(), CPU).segment(volume_of(noise))


def test_progress_counts_every_window(make_bundle, noise, tmp_path):
    progress = Progress(tmp_path / "events.jsonl")
    Predictor(make_bundle(), CPU, progress=progress).segment(volume_of(noise), name="anna")
    progress.close()
    last = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "progress"][-1]
    assert (last["stage"], last["step"], last["of"]) == ("Segment anna", 2 * 2 * 3, 2 * 2 * 3)
