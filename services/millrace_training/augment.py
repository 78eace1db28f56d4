"""Jitter: small random shifts, turns and scalings of images, on the device, from torch's seeded generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SHIFT = 0.125
MAX_TURN = math.radians(12)
MAX_SCALING = 0.1
"""Of the image's size, either way; an 8 x 8 digit moves by at most one pixel. A digit turned further may be another."""


def jitter(pixels_BN: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    """Move each image a little, with bilinear interpolation; what comes in from outside is zero.

    Args:
        pixels_BN: Flattened images, rows of height * width * channels.
        shape: (height, width, channels).
    """
    height, width, channels = shape
    batch = len(pixels_BN)
    images = pixels_BN.view(batch, height, width, channels).permute(0, 3, 1, 2)
    turn, scaling, across, down = (torch.rand(4, batch, device=pixels_BN.device) * 2 - 1).unbind(0)
    angle, size = turn * MAX_TURN, 1 + scaling * MAX_SCALING
    cosine, sine = torch.cos(angle) * size, torch.sin(angle) * size
    # Coordinates run from -1 to 1, so a share of the image's size is twice as much here.
    rows = (cosine, -sine, across * 2 * MAX_SHIFT, sine, cosine, down * 2 * MAX_SHIFT)
    grid = F.affine_grid(torch.stack(rows, dim=1).view(batch, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return moved.permute(0, 2, 3, 1).reshape(pixels_BN.shape)
