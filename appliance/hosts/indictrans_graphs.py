"""One piece of work, a CUDA graph for each shape of it; on a CPU the work itself.

What it is: ``Graphs``, which copies the arguments where the graph reads them and replays it. A graph is made by running
the work twice on arguments that harm nothing and recording the third time.
What it refuses to be: for work that looks at its results or changes its shapes; that cannot be recorded.
What it costs: some tenths of a second and the memory of the intermediate results for each shape, once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor


class Graphs:
    """``work`` by shape, on ``device``. All calls come from one thread, in the order in which they are to happen."""

    def __init__(self, device: str, stream: Any = None) -> None:
        self._device, self._stream = device, stream
        self._memory: Any = None
        self._made: dict[Hashable, tuple[Any, list[Tensor], Tensor]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __call__(
        self,
        key: Hashable,
        work: Callable[..., Tensor],
        arguments: Sequence[list[int] | list[list[int]]],
        harmless: Sequence[list[int] | list[list[int]]],
    ) -> Tensor:
        """``work(*arguments)``; ``harmless`` are arguments of the same shapes. Valid until the next call."""
        if self._device == "cpu":
            return work(*(torch.tensor(each) for each in arguments))
        if key not in self._made:
            self._made[key] = self._make(work, harmless)
        graph, places, result = self._made[key]
        for place, each in zip(places, arguments, strict=True):
            place.copy_(torch.tensor(each).pin_memory(), non_blocking=True)
        graph.replay()
        return result

    def _make(self, work: Callable[..., Tensor], harmless: Sequence[Any]) -> tuple[Any, list[Tensor], Tensor]:
        places = [torch.tensor(each, device=self._device) for each in harmless]
        for _ in range(2):
            work(*places)
        graph = torch.cuda.CUDAGraph()
        # another direction's thread may allocate meanwhile, which a recording would forbid to all threads
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
            result = work(*places)
        self._memory = self._memory or graph.pool()
        return graph, places, result
