"""Label values of any size become classes; what nobody annotated teaches nothing."""

import pytest
import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.finetuning.segmentation_task import SegmentationTask
from s3d.training.losses import dice_and_cross_entropy

TASK = SegmentationTask((0, 3, 300))
IGNORE = 301


class Given(nn.Module):
    """Answers with logits of its own, which can be asked for their gradient."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(shape[0], classes, *shape[1:], generator=generator))

    def forward(self, _volume: Tensor) -> Tensor:
        return self.logits


def batch_of(labels: Tensor | None) -> PatchBatch:
    return PatchBatch(torch.zeros(2, 1, 4, 4, 4), labels, None, (0, 1), ("a", "b"))


@pytest.fixture
def labels() -> Tensor:
    values = torch.tensor(TASK.label_values)
    return values[torch.randint(0, 3, (2, 4, 4, 4), generator=torch.Generator().manual_seed(1))]


def test_any_label_values_mean_the_same_as_their_numbers(labels: Tensor) -> None:
    model = Given(3, (2, 4, 4, 4))
    classes = (labels == 3) * 1 + (labels == 300) * 2
    expected = dice_and_cross_entropy(model.logits, classes)
    assert torch.equal(TASK.loss(model, batch_of(labels), 0), expected)


def test_slices_nobody_annotated_give_no_gradient_and_do_not_count(labels: Tensor) -> None:
    partly = labels.clone()
    partly[:, 2:] = IGNORE
    model = Given(3, (2, 4, 4, 4))
    loss = TASK.loss(model, batch_of(partly), 0)
    loss.backward()
    assert model.logits.grad is not None
    assert torch.equal(model.logits.grad[:, :, 2:], torch.zeros(2, 3, 2, 4, 4))
    assert (model.logits.grad[:, :, :2] != 0).any(dim=1).all()
    annotated = Given(3, (2, 4, 4, 4))
    annotated.logits = nn.Parameter(model.logits.detach()[:, :, :2])
    assert loss.item() == pytest.approx(TASK.loss(annotated, batch_of(partly[:, :2]), 0).item(), abs=1e-6)


def test_a_patch_without_any_annotation_teaches_nothing(labels: Tensor) -> None:
    model = Given(3, (2, 4, 4, 4))
    loss = TASK.loss(model, batch_of(torch.full_like(labels, IGNORE)), 0)
    loss.backward()
    assert loss.item() == pytest.approx(0)
    assert model.logits.grad is not None
    assert not model.logits.grad.any()


def test_a_batch_without_labels_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="reads labels"):
        TASK.loss(Given(3, (2, 4, 4, 4)), batch_of(None), 0)
