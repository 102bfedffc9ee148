"""SS4Rec: two state space models over what a user did, one of them in continuous time.

Xiao et al., SS4Rec: Continuous-Time Sequential Recommendation with State Space Models,
https://arxiv.org/abs/2502.08132. A block is a time-aware model (S5, Smith et al.,
https://arxiv.org/abs/2208.04933), whose state moves on for as long as nothing happened, and then a
relation-aware one (Mamba, Gu & Dao, https://arxiv.org/abs/2312.00752), whose steps the input chooses; each
with dropout, residual and norm. The wait after the last event ends with the request, so that the same
history asks for other items a minute and a month later.

Shapes: N events end to end, D width, P complex states, E channels, S states of a channel, R rank, K marks
along the wait.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.config import ConfigError
from recray.models.id_tables import Tables
from recray.models.next_item import Events, NextItemLoss, NextItemModel
from recray.ops.scans import Backend, causal_conv1d, s5_scan, selective_scan
from recray.schema import FeatureSchema

LONGEST_S = 10 * 365 * 86_400  # a wait that no longer one is told from


@dataclass(frozen=True, kw_only=True)
class SS4RecConfig:
    """The blocks and their loss."""

    dim: int = 64
    """Width of the blocks and of the item vectors."""
    num_blocks: int = 2
    """Blocks of S5 and Mamba."""
    parts: Literal["s5+mamba", "s5", "mamba"] = "s5+mamba"
    """What a block consists of; the halves alone are for ablation."""
    s5_states: int = 32
    """Complex states of S5, each standing for itself and its conjugate."""
    interval: Literal["log", "linear", "none"] = "log"
    """S5's step after an event. log: 1 + log(1 + wait / time_unit_s). linear: the paper's wait / time_unit_s,
    under which an event that another one follows in the same second leaves no trace. none: 1."""
    time_unit_s: float = 3600.0
    """Seconds that count as one."""
    wait_vectors: int = 0
    """Learnt vectors along the logarithm of the wait, up to ten years; what lies between two is added to the
    event that it follows, beside S5's steps. 0, as in the paper: the steps alone tell the time. None where
    there is no S5 or no interval."""
    channels: int = 128
    """Channels of Mamba, its expansion."""
    mamba_states: int = 16
    """States of each channel."""
    kernel: int = 4
    """Events that Mamba's convolution sees."""
    dropout: float = 0.2
    """Of embeddings and of what each part adds."""
    max_items: int = 200
    """Events that a query is answered from, the latest ones."""
    backend: Backend = "auto"
    """Of the scans, see ``recray.ops.scans``; what mamba_ssm does not have goes to auto."""
    side_features: bool = False
    """Read genres, text and other columns of the items beside their ids, where the data set has them."""
    loss: NextItemLoss = field(default_factory=NextItemLoss)

    def __post_init__(self) -> None:
        for name in ("num_blocks", "s5_states", "channels", "mamba_states", "kernel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.wait_vectors < 0 or self.wait_vectors == 1:
            raise ConfigError(f"wait_vectors must be 0, or at least 2, got {self.wait_vectors}")
        if not 0 <= self.dropout < 1 or self.time_unit_s <= 0:
            raise ConfigError(
                f"dropout {self.dropout} must be in [0, 1) and time_unit_s {self.time_unit_s} above 0"
            )


class S5(nn.Module):
    """``x' = L x + B u, y = 2 Re(C x) + D u``, diagonal L; each input is held until the next event."""

    def __init__(self, dim: int, states: int, backend: Backend) -> None:
        super().__init__()
        poles_P, basis_SP = _hippo(2 * states)
        self.log_decay_P = nn.Parameter((-poles_P.real).log())
        self.frequency_P = nn.Parameter(poles_P.imag.clone())
        self.log_rate_P = nn.Parameter(_log_uniform(states, 1e-3, 1e-1))
        # B and C in the basis of the poles, as real matrices: x enters as (real part, imaginary part).
        into_PD = basis_SP.conj().T @ (torch.randn(2 * states, dim) * dim**-0.5).to(basis_SP)
        out_DP = (torch.randn(dim, 2 * states) * (2 * states) ** -0.5).to(basis_SP) @ basis_SP
        self.into = nn.Parameter(torch.view_as_real(into_PD.T.contiguous()).flatten(1))
        conjugate_PD = (2 * out_DP.T).conj_physical().contiguous()
        self.out = nn.Parameter(torch.view_as_real(conjugate_PD).transpose(1, 2).flatten(0, 1))
        self.skip_D = nn.Parameter(torch.rand(dim))
        self.backend: Backend = backend

    def forward(self, u_ND: Tensor, intervals_N: Tensor, offsets_B: Tensor) -> Tensor:
        poles_P = torch.complex(-self.log_decay_P.exp(), self.frequency_P)
        inputs_NP = torch.view_as_complex((u_ND @ self.into).float().view(len(u_ND), -1, 2))
        states_NP = s5_scan(
            inputs_NP, intervals_N, poles_P, self.log_rate_P.exp(), offsets_B, backend=self.backend
        )
        return torch.view_as_real(states_NP).flatten(1) @ self.out + self.skip_D * u_ND


class Mamba(nn.Module):
    """A state space whose inputs, outputs and decay depend on what is read (algorithm 2 of the paper)."""

    def __init__(self, dim: int, channels: int, states: int, kernel: int, backend: Backend) -> None:
        super().__init__()
        self.sizes = (rank := math.ceil(dim / 16), states, states)
        self.into = nn.Linear(dim, 2 * channels, bias=False)
        self.kernel_EK = nn.Parameter(torch.empty(channels, kernel).uniform_(-1, 1) * kernel**-0.5)
        self.kernel_E = nn.Parameter(torch.empty(channels).uniform_(-1, 1) * kernel**-0.5)
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)
        self.delta = nn.Linear(rank, channels)
        nn.init.uniform_(self.delta.weight, -(rank**-0.5), rank**-0.5)
        delta_E = _log_uniform(channels, 1e-3, 1e-1).exp()
        with torch.no_grad():
            self.delta.bias.copy_(delta_E + torch.log(-torch.expm1(-delta_E)))  # softplus gives delta_E
        self.log_decay_ES = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))
        self.skip_E = nn.Parameter(torch.ones(channels))
        self.out = nn.Linear(channels, dim, bias=False)
        self.backend: Backend = backend

    def forward(self, x_ND: Tensor, offsets_B: Tensor) -> Tensor:
        u_NE, gate_NE = self.into(x_ND).chunk(2, dim=-1)
        u_NE = F.silu(
            causal_conv1d(u_NE.float(), self.kernel_EK, self.kernel_E, offsets_B, backend=self.backend)
        )
        low_NR, in_NS, out_NS = self.select(u_NE).split(self.sizes, dim=-1)
        delta_NE = F.softplus(self.delta(low_NR).float())
        y_NE = selective_scan(
            u_NE,
            delta_NE,
            -self.log_decay_ES.exp(),
            in_NS.float(),
            out_NS.float(),
            self.skip_E,
            offsets_B,
            backend=self.backend,
        )
        out_ND: Tensor = self.out(y_NE * F.silu(gate_NE))
        return out_ND


class Block(nn.Module):
    """S5, then Mamba: ``x + dropout(part(x))``, normalised, for each."""

    def __init__(self, config: SS4RecConfig) -> None:
        super().__init__()
        dim, backend = config.dim, config.backend
        s5_backend: Backend = "auto" if backend == "mamba_ssm" else backend
        self.has_s5, self.has_mamba = "s5" in config.parts, "mamba" in config.parts
        if self.has_s5:
            self.s5 = S5(dim, config.s5_states, s5_backend)
            self.norm_s5 = nn.LayerNorm(dim)
        if self.has_mamba:
            self.mamba = Mamba(dim, config.channels, config.mamba_states, config.kernel, backend)
            self.norm_mamba = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_ND: Tensor, intervals_N: Tensor, offsets_B: Tensor) -> Tensor:
        if self.has_s5:
            x_ND = self.norm_s5(x_ND + self.dropout(self.s5(x_ND, intervals_N, offsets_B)))
        if self.has_mamba:
            x_ND = self.norm_mamba(x_ND + self.dropout(self.mamba(x_ND, offsets_B)))
        return x_ND


class SS4Rec(NextItemModel):
    """A ``VectorRetriever``; see ``recray.contract``."""

    def __init__(
        self,
        config: SS4RecConfig,
        schema: FeatureSchema,
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        features = schema.item if config.side_features else ()
        super().__init__(schema.num_items, config.dim, config.max_items, config.loss, features, tables)
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.dropout = nn.Dropout(config.dropout)
        reads_waits = "s5" in config.parts and config.interval != "none" and config.wait_vectors
        self.wait_KD = (
            nn.Parameter(torch.randn(config.wait_vectors, config.dim) * 0.02) if reads_waits else None
        )

    def encode(self, events: Events) -> Tensor:
        """hidden_ND; the last state of a row is that at the time of its request."""
        intervals_N = self._intervals(events.waits_N)
        x_ND = self.embed(events.items.values_N)
        if self.wait_KD is not None:
            x_ND = x_ND + _along(events.waits_N, len(self.wait_KD)) @ self.wait_KD
        x_ND = self.dropout(x_ND * self.items.embedding_dim**0.5)
        for block in self.blocks:
            x_ND = block(x_ND, intervals_N, events.items.offsets_B)
        hidden_ND: Tensor = x_ND
        return hidden_ND

    def _intervals(self, waits_N: Tensor) -> Tensor:
        waited_N: Tensor = waits_N / self.config.time_unit_s
        if self.config.interval == "log":
            return 1.0 + waited_N.log1p()
        return waited_N if self.config.interval == "linear" else torch.ones_like(waited_N)


def _along(waits_N: Tensor, marks: int) -> Tensor:
    """weights_NK of the two marks on either side of log(1 + wait), which are even up to ten years."""
    place_N1 = (waits_N.log1p() * ((marks - 1) / math.log1p(LONGEST_S))).clamp(0, marks - 1)[:, None]
    return (1 - (place_N1 - torch.arange(marks, device=waits_N.device)).abs()).clamp(min=0)


def _hippo(size: int) -> tuple[Tensor, Tensor]:
    """(poles, eigenvectors) of the normal part of HiPPO-LegS, one of each conjugate pair (S5, 4.1)."""
    root = np.sqrt(1 + 2 * np.arange(size))
    legs = np.tril(root[:, None] * root) - np.diag(np.arange(size))
    low_rank = np.sqrt(np.arange(size) + 0.5)
    normal = -legs + low_rank[:, None] * low_rank
    frequencies, basis = np.linalg.eigh(normal * -1j)
    decay = np.full(size, np.diagonal(normal).mean())
    keep = np.flatnonzero(frequencies > 0)
    poles_P = torch.from_numpy(decay[keep] + 1j * frequencies[keep]).to(torch.complex64)
    return poles_P, torch.from_numpy(basis[:, keep]).to(torch.complex64)


def _log_uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count).uniform_(math.log(low), math.log(high))


MODEL = SS4Rec
