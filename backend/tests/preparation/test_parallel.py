import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from s3d.preparation.parallel import in_parallel


@pytest.fixture(autouse=True)
def keep_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_whoever_ends_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(timeout=10)
        second_is_done.set()
        return number * number

    assert list(in_parallel(work, range(5), workers=2)) == [0, 1, 4, 9, 16]


def test_an_error_is_raised_and_stops_what_was_not_begun() -> None:
    begun = []
    never = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise OSError("disk full")
        if number > 1:
            never.wait(timeout=0.05)

    with pytest.raises(OSError, match="disk full"):
        list(in_parallel(work, range(1000), workers=1))
    assert len(begun) < 100


def test_closing_early_stops_what_was_not_begun() -> None:
    begun = []
    never = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number > 0:
            never.wait(timeout=0.05)

    with closing(in_parallel(work, range(1000), workers=2)) as results:
        next(results)
    assert len(begun) < 100


def test_torchs_own_threads_are_back_afterwards() -> None:
    torch.set_num_threads(2)
    seen = list(in_parallel(lambda _: torch.get_num_threads(), range(4), workers=2))
    assert seen == [1, 1, 1, 1]
    assert torch.get_num_threads() == 2
