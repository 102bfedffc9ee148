"""A tensor of which this process holds only some pieces, as ``torch.distributed.checkpoint`` reads it.

PyTorch's own DTensor and ShardedTensor need a process group and a regular layout; a piece here is any
rectangle, and a process without a group can hold, save and load one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # whoever serves imports this and saves nothing: half a second
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
    from torch.distributed.checkpoint.planner import WriteItem


@dataclass(frozen=True)
class Piece:
    """A rectangle of a larger tensor."""

    tensor: Tensor
    offsets: tuple[int, ...]
    """Where its first element lies in the whole, one number per dimension."""

    def cut_from(self, whole: Tensor) -> Tensor:
        """The same rectangle of a tensor that is all there."""
        for dim, (offset, size) in enumerate(zip(self.offsets, self.tensor.shape, strict=True)):
            whole = whole.narrow(dim, offset, size)
        return whole


@dataclass(frozen=True)
class Sharded:
    """The pieces of a tensor of ``shape`` that are here; others are with other processes, or nowhere."""

    shape: torch.Size
    pieces: tuple[Piece, ...]

    def size(self) -> torch.Size:
        return self.shape

    def map(self, function: Callable[[Tensor], Tensor]) -> "Sharded":
        """The same layout with other tensors."""
        return Sharded(self.shape, tuple(Piece(function(p.tensor), p.offsets) for p in self.pieces))

    def piece(self, index: "MetadataIndex") -> Tensor:
        """The piece that a checkpoint calls by its offsets."""
        return next(p.tensor for p in self.pieces if torch.Size(p.offsets) == index.offset)

    def copy_(self, source: "Tensor | Sharded") -> None:
        """Fills the pieces from a whole tensor, or from the same pieces.

        Raises:
            ValueError: another shape, or pieces cut differently.
        """
        if self.shape != source.shape:
            raise ValueError(f"expected shape {list(self.shape)}, got {list(source.shape)}")
        if isinstance(source, Sharded):
            theirs = {(p.offsets, p.tensor.shape): p.tensor for p in source.pieces}
            if theirs.keys() != {(p.offsets, p.tensor.shape) for p in self.pieces}:
                raise ValueError(
                    "its pieces are cut differently: load through a checkpoint, or a whole tensor"
                )
            for piece in self.pieces:
                piece.tensor.copy_(theirs[piece.offsets, piece.tensor.shape])
        else:
            for piece in self.pieces:
                piece.tensor.copy_(piece.cut_from(source))

    def whole(self) -> Tensor | None:
        """The tensor, where one piece is all of it."""
        return next((p.tensor for p in self.pieces if p.tensor.shape == self.shape), None)

    def __create_write_items__(self, fqn: str, object: object) -> "list[WriteItem]":
        from torch.distributed.checkpoint.metadata import MetadataIndex, TensorProperties
        from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

        return [
            WriteItem(
                index=MetadataIndex(fqn, torch.Size(piece.offsets)),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(
                    _chunk(piece), TensorProperties.create_from_tensor(piece.tensor), self.shape
                ),
            )
            for piece in self.pieces
        ]

    def __create_chunk_list__(self) -> "list[ChunkStorageMetadata]":
        return [_chunk(piece) for piece in self.pieces]

    def __get_tensor_shard__(self, index: "MetadataIndex") -> Tensor:
        return self.piece(index)


def _chunk(piece: Piece) -> "ChunkStorageMetadata":
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

    return ChunkStorageMetadata(torch.Size(piece.offsets), piece.tensor.shape)
