"""Residual quantisation: a vector as a sum of codes, one from each level's codebook.

Lee et al., Autoregressive Image Generation using Residual Quantization, CVPR 2022,
https://arxiv.org/abs/2203.01941, section 3.1: level d quantises what the levels before it left over.
How a code is chosen, how gradients pass that choice, and how codes stay in use are functions of their own.

Shapes: B rows, L levels, C codes of a level, D code dim, I items.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from recray.config import ConfigError
from recray.losses import squared_error

KMEANS_ROWS_PER_CODE = 256  # k-means sees at most so many; more do not move its centroids


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """The codebooks, and how they learn."""

    levels: int = 3
    """Codes of a semantic id, before the one that tells colliding items apart."""
    codebook_size: int = 256
    """Codes of each level."""
    estimator: Literal["ste", "rotation", "gumbel"] = "rotation"
    """How gradients pass the choice of a code: straight-through, rotation trick, or Gumbel-softmax."""
    distance: Literal["l2", "cosine"] = "l2"
    """What the nearest code is: by squared Euclidean distance, or by direction alone."""
    simvq: bool = False
    """A codebook is a frozen one times a learned matrix (SimVQ), so that all of its codes move together."""
    sinkhorn_levels: int = 0
    """The last so many levels are trained with balanced codes (Sinkhorn-Knopp), not the nearest ones."""
    sinkhorn_epsilon: float = 0.05
    """Entropy of the balanced assignment, in units of the mean distance; smaller is sharper."""
    sinkhorn_iterations: int = 10
    """Rounds of scaling rows and columns."""
    temperature_start: float = 0.5
    """Of the Gumbel-softmax at step 0, in units of the mean distance to the nearest code."""
    temperature_end: float = 0.05
    """And from step ``temperature_steps`` on; between them it falls geometrically."""
    temperature_steps: int = 200
    """Steps over which the temperature falls."""
    revive_every: int = 50
    """Steps after which codes that no row chose move to where rows are; 0 leaves them."""

    def __post_init__(self) -> None:
        for name in ("levels", "codebook_size", "sinkhorn_iterations", "temperature_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"quantizer.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("sinkhorn_epsilon", "temperature_start", "temperature_end"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"quantizer.{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.sinkhorn_levels <= self.levels:
            raise ConfigError(
                f"quantizer.sinkhorn_levels must be 0 to {self.levels}, got {self.sinkhorn_levels}"
            )
        if self.sinkhorn_levels and self.estimator == "gumbel":
            raise ConfigError(
                "quantizer.estimator gumbel draws its codes: set sinkhorn_levels to 0, or use ste or rotation"
            )
        if self.revive_every < 0:
            raise ConfigError(f"quantizer.revive_every must not be negative, got {self.revive_every}")


class Quantized(NamedTuple):
    """What became of a batch of vectors."""

    codes_BL: Tensor  # int64
    vectors_BD: Tensor  # the sum of each row's codes; gradients pass it as the estimator says
    codebook: Tensor  # scalar: the codes' distance from what they stand for
    commitment: Tensor  # scalar: the same, moving the vectors instead of the codes


class ResidualQuantizer(nn.Module):
    """L codebooks. Training state beside the weights: the step, and which codes were in use lately."""

    codes_LCD: Tensor
    used_LC: Tensor
    step: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        shape = (config.levels, config.codebook_size)
        codes_LCD = torch.randn(*shape, dim) * dim**-0.5
        self.mixing_LDD: nn.Parameter | None = None
        if config.simvq:  # equation 6 of the paper: the codes are drawn once, their basis is learned
            self.register_buffer("codes_LCD", codes_LCD)
            self.mixing_LDD = nn.Parameter(torch.eye(dim).repeat(config.levels, 1, 1))
        else:
            self.codes_LCD = nn.Parameter(codes_LCD)
        self.register_buffer("used_LC", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def codebook(self, level: int) -> Tensor:
        """vectors_CD of a level's codes."""
        codes_CD = self.codes_LCD[level]
        return codes_CD if self.mixing_LDD is None else codes_CD @ self.mixing_LDD[level]

    @torch.no_grad()
    def initialise(self, vectors_ID: Tensor, seed: int) -> None:
        """Each level's codes are the k-means centroids of what the levels before it left over.

        Raises:
            ConfigError: fewer vectors than codes.
        """
        residual_ID = vectors_ID
        for level in range(self.config.levels):
            self._place(level, slice(None), kmeans(residual_ID, self.config.codebook_size, seed + level))
            residual_ID = residual_ID - self._nearest(level, residual_ID)[1]

    def forward(self, vectors_BD: Tensor) -> Quantized:
        """Quantises each row, training the codes if the module is in training mode."""
        if self.training and self._time_to_revive():
            self._revive(vectors_BD)
        residual_BD, total_BD = vectors_BD, torch.zeros_like(vectors_BD)
        codebook, commitment = vectors_BD.new_zeros(()), vectors_BD.new_zeros(())
        codes = []
        for level in range(self.config.levels):
            codebook_CD = self.codebook(level)
            distance_BC = distances(residual_BD, codebook_CD, self.config.distance)
            codes_B, code_BD = self._choose(level, distance_BC, codebook_CD)
            codebook = codebook + squared_error(code_BD, residual_BD.detach())
            commitment = commitment + squared_error(residual_BD, code_BD.detach())
            residual_BD, total_BD = residual_BD - code_BD.detach(), total_BD + code_BD
            codes.append(codes_B)
            if self.training:
                self.used_LC[level] |= torch.bincount(codes_B, minlength=len(codebook_CD)) > 0
        if self.training:
            self.step += 1
        passed_BD = self._pass_gradients(vectors_BD, total_BD)
        return Quantized(torch.stack(codes, dim=1), passed_BD, codebook, commitment)

    @torch.no_grad()
    def encode(self, vectors_BD: Tensor) -> Tensor:
        """codes_BL, int64: the nearest code at every level, however the codes were trained."""
        codes, residual_BD = [], vectors_BD
        for level in range(self.config.levels):
            codes_B, code_BD = self._nearest(level, residual_BD)
            residual_BD = residual_BD - code_BD
            codes.append(codes_B)
        return torch.stack(codes, dim=1)

    def decode(self, codes_BL: Tensor) -> Tensor:
        """vectors_BD: the sum of each row's codes."""
        return torch.stack([self.codebook(i)[codes_BL[:, i]] for i in range(self.config.levels)]).sum(0)

    def temperature(self) -> float:
        """Of the Gumbel-softmax at the current step."""
        config, done = self.config, min(int(self.step) / self.config.temperature_steps, 1.0)
        ratio: float = (config.temperature_end / config.temperature_start) ** done
        return config.temperature_start * ratio

    def _nearest(self, level: int, residual_BD: Tensor) -> tuple[Tensor, Tensor]:
        """(codes_B, code_BD): the code nearest to each row, and its vector."""
        codebook_CD = self.codebook(level)
        codes_B = distances(residual_BD, codebook_CD, self.config.distance).argmin(dim=1)
        return codes_B, codebook_CD[codes_B]

    def _choose(self, level: int, distance_BC: Tensor, codebook_CD: Tensor) -> tuple[Tensor, Tensor]:
        """(codes_B, code_BD): each row's code, and the vector that stands for it."""
        config, codes_B = self.config, distance_BC.argmin(dim=1)
        if self.training and level >= config.levels - config.sinkhorn_levels:
            plan_BC = sinkhorn(distance_BC.detach(), config.sinkhorn_epsilon, config.sinkhorn_iterations)
            codes_B = plan_BC.argmax(dim=1)
        if self.training and config.estimator == "gumbel":
            return codes_B, gumbel_softmax(distance_BC, self.temperature()) @ codebook_CD
        return codes_B, codebook_CD[codes_B]

    def _pass_gradients(self, vectors_BD: Tensor, total_BD: Tensor) -> Tensor:
        if self.config.estimator == "gumbel":
            return total_BD
        estimator = rotate if self.config.estimator == "rotation" else straight_through
        return estimator(vectors_BD, total_BD)

    def _time_to_revive(self) -> bool:
        every = self.config.revive_every
        return every > 0 and int(self.step) > 0 and int(self.step) % every == 0

    @torch.no_grad()
    def _revive(self, vectors_BD: Tensor) -> None:
        """Unused codes become what rows of this batch leave over at their level, the same on all workers."""
        residual_BD = vectors_BD
        for level, used_C in enumerate(self.used_LC):
            drawn_C = torch.randint(len(residual_BD), (len(used_C),), device=residual_BD.device)
            rows_CD = residual_BD[drawn_C]
            if dist.is_available() and dist.is_initialized():
                counts_C = used_C.int()
                dist.all_reduce(counts_C)
                dist.broadcast(rows_CD, src=0)
                used_C = counts_C > 0
            self._place(level, ~used_C, rows_CD[~used_C])
            residual_BD = residual_BD - self._nearest(level, residual_BD)[1]
        self.used_LC.zero_()

    def _place(self, level: int, which: Tensor | slice, vectors: Tensor) -> None:
        if self.mixing_LDD is not None:
            vectors = vectors @ torch.linalg.pinv(self.mixing_LDD[level])
        self.codes_LCD[level, which] = vectors


def distances(rows_BD: Tensor, codebook_CD: Tensor, kind: Literal["l2", "cosine"]) -> Tensor:
    """distance_BC >= 0: ``|x - e|^2``, or ``1 - cos(x, e)``, which is half of that for unit vectors.

    From differences: ``|x|^2 - 2 x e + |e|^2`` cancels far from the origin and rounds by the batch.
    """
    if kind == "cosine":
        rows_BD, codebook_CD = F.normalize(rows_BD, dim=1), F.normalize(codebook_CD, dim=1)
    distance_BC = torch.cdist(rows_BD, codebook_CD, compute_mode="donot_use_mm_for_euclid_dist")
    return distance_BC.square() / (2 if kind == "cosine" else 1)


def straight_through(vectors_BD: Tensor, codes_BD: Tensor) -> Tensor:
    """``codes_BD``, whose gradient goes to the vectors unchanged (Bengio et al. 2013, arXiv 1308.3432)."""
    return vectors_BD + (codes_BD - vectors_BD).detach()


def rotate(vectors_BD: Tensor, codes_BD: Tensor) -> Tensor:
    """``codes_BD``, as a rotation and scaling of the vectors that gradients see as constant.

    Fifty et al., Restructuring Vector Quantization with the Rotation Trick, ICLR 2025,
    https://arxiv.org/abs/2410.06424, section 4.2:
    ``q = (|q| / |e|) R e`` with ``R = I - 2 r r^T + 2 q' e'^T``, e' and q' the unit vectors and
    ``r = (e' + q') / |e' + q'|``. R is never formed.
    """
    with torch.no_grad():
        length_B1 = vectors_BD.norm(dim=1, keepdim=True).clamp(min=1e-12)
        scale_B1 = codes_BD.norm(dim=1, keepdim=True) / length_B1
        from_BD, to_BD = vectors_BD / length_B1, F.normalize(codes_BD, dim=1)
        middle_BD = F.normalize(from_BD + to_BD, dim=1)
    along_B1 = (vectors_BD * middle_BD).sum(1, keepdim=True)
    from_B1 = (vectors_BD * from_BD).sum(1, keepdim=True)
    rotated_BD: Tensor = scale_B1 * (vectors_BD - 2 * along_B1 * middle_BD + 2 * from_B1 * to_BD)
    # A vector without a direction cannot be turned.
    return torch.where(length_B1 > 1e-12, rotated_BD, straight_through(vectors_BD, codes_BD))


def gumbel_softmax(distance_BC: Tensor, temperature: float) -> Tensor:
    """Random weights_BC that sum to one: a code drawn with probability ``softmax(-distance)``, relaxed.

    Jang et al., Categorical Reparameterization with Gumbel-Softmax, ICLR 2017,
    https://arxiv.org/abs/1611.01144, equation 2. Distances count in units of the mean distance to the
    nearest code, so that noise and distances have one scale whatever the scale of the vectors.
    """
    unit = distance_BC.detach().min(dim=1).values.mean().clamp(min=1e-12)
    noise_BC = -torch.empty_like(distance_BC).exponential_().log()
    return F.softmax((noise_BC - distance_BC / unit) / temperature, dim=1)


def sinkhorn(distance_BC: Tensor, epsilon: float, iterations: int) -> Tensor:
    """plan_BC: near codes, yet every code equally often; rows sum to 1, columns to about B / C.

    Cuturi, Sinkhorn Distances, NIPS 2013, https://arxiv.org/abs/1306.0895, algorithm 1, as used for
    balanced codes by Zheng et al. (LC-Rec), ICDE 2024, https://arxiv.org/abs/2311.09049, section 3.2.3;
    in logarithms, where small ``epsilon`` (in units of the mean distance) cannot overflow.
    """
    log_BC: Tensor = -distance_BC / (epsilon * distance_BC.mean().clamp(min=1e-12))
    for _ in range(iterations):
        log_BC = log_BC - log_BC.logsumexp(dim=0)
        log_BC = log_BC - log_BC.logsumexp(dim=1, keepdim=True)
    return log_BC.exp()


def kmeans(vectors_ID: Tensor, num_centroids: int, seed: int) -> Tensor:
    """centroids_CD of at most ``KMEANS_ROWS_PER_CODE`` vectors each; k-means++ and Lloyd's rounds.

    Raises:
        ConfigError: fewer vectors than centroids.
    """
    from sklearn.cluster import KMeans  # a replica never needs it

    if len(vectors_ID) < num_centroids:
        raise ConfigError(
            f"{num_centroids} codes a level for {len(vectors_ID)} items: "
            "lower model.quantizer.codebook_size to at most the number of items"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(vectors_ID), generator=generator)[: KMEANS_ROWS_PER_CODE * num_centroids]
    sample = vectors_ID[rows.to(vectors_ID.device)].float().cpu().numpy()
    found = KMeans(num_centroids, n_init=1, max_iter=50, random_state=seed).fit(sample)
    return torch.from_numpy(found.cluster_centers_).to(vectors_ID)
