"""RQ-VAE: item content to semantic ids.

Rajput et al., Recommender Systems with Generative Retrieval, NeurIPS 2023,
https://arxiv.org/abs/2305.05065, section 3.1, in its letters: x the content vector, z = E(x) its latent,
r_d the residual of level d, e_c the code chosen there, ``z^ = sum_d e_c`` and ``x^ = D(z^)``. The loss is
``|x - x^|^2 + sum_d |sg[r_d] - e_c|^2 + beta |r_d - sg[e_c]|^2``, summed over dimensions and averaged over
items: averaging the reconstruction over dimensions too lets the codebooks collapse. One term more than in
the paper, ``spread``, keeps latents of near-equal items apart.

Shapes: B rows, F content dim, D latent dim, L levels, I items.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from recray.batch import ContentBatch
from recray.config import ConfigError
from recray.losses import koleo, squared_error
from recray.models.quantizer import Quantized, QuantizerConfig, ResidualQuantizer
from recray.schema import ContentSchema

CHUNK = 16384  # rows encoded at once


@dataclass(frozen=True, kw_only=True)
class RQVAEConfig:
    """The autoencoder and its loss."""

    autoencoder: Literal["mlp", "none"] = "mlp"
    """mlp: what an encoder makes of the content is quantised; none: the content itself (residual k-means)."""
    hidden_dims: tuple[int, ...] = (512, 256, 128)
    """Widths of the encoder between content and latent; the decoder mirrors them."""
    latent_dim: int = 16
    """Size of the vectors that are quantised."""
    commitment: float = 0.25
    """Weight of the term that draws latents to their codes: beta of the paper."""
    spread: float = 0.08
    """Weight of a term that keeps latents apart (KoLeo), so that near-equal items get different codes."""
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if min(self.latent_dim, *self.hidden_dims, 1) < 1:
            raise ConfigError(f"latent_dim and hidden_dims must be positive, got {self}")
        for name in ("commitment", "spread"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


class RQVAE(nn.Module):
    """Learns from ``ContentBatch``; ``encode`` gives semantic ids, also to items it never saw."""

    def __init__(self, config: RQVAEConfig, schema: ContentSchema) -> None:
        super().__init__()
        widths = (schema.content_dim, *config.hidden_dims, config.latent_dim)
        plain = config.autoencoder == "none"
        self.encoder: nn.Module = nn.Identity() if plain else mlp(widths)
        self.decoder: nn.Module = nn.Identity() if plain else mlp(widths[::-1])
        latent_dim = schema.content_dim if plain else config.latent_dim
        self.quantizer = ResidualQuantizer(config.quantizer, latent_dim)
        self.commitment, self.spread = config.commitment, config.spread

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        return (self.quantizer.config.codebook_size,) * self.quantizer.config.levels

    def initialise(self, content_IF: Tensor, seed: int) -> None:
        """k-means of the latents, level by level; once, before training.

        Raises:
            ConfigError: fewer items than codes.
        """
        self.quantizer.initialise(self.latents(content_IF), seed)

    def loss(self, batch: ContentBatch) -> dict[str, Tensor]:
        latent_BD = self.encoder(batch.content_BF).float()
        quantized = self._quantize(latent_BD)
        reconstruction = squared_error(self.decoder(quantized.vectors_BD).float(), batch.content_BF)
        loss = reconstruction + quantized.codebook + self.commitment * quantized.commitment
        parts = {
            "reconstruction": reconstruction,
            "codebook": quantized.codebook,
            "commitment": quantized.commitment,
        }
        if self.spread and latent_BD.requires_grad:
            parts["spread"] = koleo(latent_BD)
            loss = loss + self.spread * parts["spread"]
        return {"loss": loss, **parts}

    @torch.no_grad()
    def latents(self, content_IF: Tensor) -> Tensor:
        """latent_ID."""
        return torch.cat([self.encoder(chunk_BF).float() for chunk_BF in torch.split(content_IF, CHUNK)])

    @torch.no_grad()
    def encode(self, content_IF: Tensor) -> Tensor:
        """codes_IL, int64: a function of each row alone."""
        chunks = torch.split(self.latents(content_IF), CHUNK)
        return torch.cat([self.quantizer.encode(latent_BD) for latent_BD in chunks])

    @torch.no_grad()
    def decode(self, codes_IL: Tensor) -> Tensor:
        """content_IF that the codes stand for."""
        content_IF: Tensor = self.decoder(self.quantizer.decode(codes_IL))
        return content_IF

    def _quantize(self, latent_BD: Tensor) -> Quantized:
        # Neighbouring codes differ by less than bfloat16 can tell.
        with torch.autocast(latent_BD.device.type, enabled=False):
            quantized: Quantized = self.quantizer(latent_BD)
        return quantized


def mlp(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


MODEL = RQVAE
