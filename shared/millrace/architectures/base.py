"""What every architecture is: a torch module that names its program's tensors and knows its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from millrace.architectures.arguments import Arguments


@dataclass(frozen=True, slots=True)
class ProgramTensor:
    """One input or output of `forward`. A dimension is a number, or a name where it varies, such as `batch`."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[int | str, ...]

    def example(self, sizes: dict[str, int]) -> Tensor:
        """A tensor of zeros (float32) or ones (int64: a valid id that is not padding), with named dimensions sized."""
        shape = [sizes[d] if isinstance(d, str) else d for d in self.shape]
        return torch.zeros(shape) if self.dtype == "float32" else torch.ones(shape, dtype=torch.int64)


class Architecture(nn.Module, ABC):
    """Base of all. `forward` takes the tensors of `inputs` in order and answers those of `outputs`.

    Constructors allocate nothing that depends on data, so they also work on the `meta` device.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def arguments(self) -> Arguments:
        """What it was built from."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[ProgramTensor, ...]:
        """The program's inputs, in `forward`'s order."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[ProgramTensor, ...]:
        """The program's outputs, in order."""

    @abstractmethod
    def flops_per_example(self) -> int:
        """Floating-point operations of matrix products in one forward pass; a multiply-add counts as two."""

    @abstractmethod
    def activations_per_example(self) -> int:
        """About how many floats a training step keeps for one example: for an estimate before anything is allocated."""

    def learning_rate_scale(self, parameter: str) -> float:
        """By how much a parameter's learning rate differs from the recipe's; mostly by nothing."""
        del parameter
        return 1.0

    def hidden_matrices(self) -> frozenset[str]:
        """Names of the matrices between hidden layers: what Muon orthogonalizes. Embeddings and heads are not."""
        return frozenset(
            f"{name}.weight"
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear) and not name.endswith(("head", "skip"))
        )

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())
