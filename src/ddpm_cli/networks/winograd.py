"""3x3 convolutions with a quarter of the multiplications, for processors that have nothing faster than float32.

Every 4x4 square of the output depends on the 6x6 square of the input around it. In the basis of Winograd's minimal
filtering F(4x4, 3x3) the two are joined by 36 products a pair of channels instead of 144: for each of the 36 places one
matrix product over all channels. The price is rounding, about 1e-5 of the largest value instead of 1e-7.

References:
    Lavin and Gray 2016, section 4.3, whose matrices these are.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SQUARE = 4  # pixels of the output in a row of a square
REACH = SQUARE + 2  # pixels of the input that they depend on
# Squares at once: their 36 matrices then stay in a processor's cache.
SQUARES = 400


def _both_ways(rows: list[list[float]]) -> Tensor:
    """A transformation of rows, applied to rows and columns: one matrix on squares written as vectors; float64."""
    matrix = torch.tensor(rows, dtype=torch.float64, device="cpu")
    return torch.kron(matrix, matrix)


# Of the input, (36, 36); of the kernel, (36, 9); and back to the output, (16, 36).
INPUT = _both_ways(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = _both_ways(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
OUTPUT = _both_ways([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


# Channels in times channels out from which on fewer products make good for the transformations.
WIDE = 128 * 128


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """The 3x3 convolution with a border of zeros, as ``F.conv2d(x, kernel, bias, padding=1)``; differentiable once.

    Args:
        x: (B, C, H, W), best with channels last; float32, or float64 for an exact answer.
        kernel: (C', C, 3, 3).
        bias: (C',).

    Returns:
        (B, C', H, W), channels last.
    """
    out: Tensor = _Convolution.apply(x, kernel, bias)
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _forward(x, kernel).add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        by_x, by_kernel, by_bias = ctx.needs_input_grad
        return (
            # By its input: the convolution with the kernel turned round.
            _forward(gradient, kernel.flip(2, 3).transpose(0, 1)) if by_x else None,
            _by_kernel(x, gradient) if by_kernel else None,
            gradient.sum((0, 2, 3)) if by_bias else None,
        )


def _forward(x: Tensor, kernel: Tensor) -> Tensor:
    pixels = x.permute(0, 2, 3, 1)
    (count, height, width, _), made = pixels.shape, len(kernel)
    transformed = KERNEL.to(x) @ kernel.permute(2, 3, 1, 0).reshape(9, -1)
    transformed = transformed.view(REACH**2, -1, made)  # (36, C, C')
    back = OUTPUT.to(x)
    out = pixels.new_empty(count, height, width, made)
    for part, squares in _squares(pixels):
        places = torch.bmm(_transformed(squares), transformed)
        down, right = squares.shape[3:5]
        found = (back @ places.view(REACH**2, -1)).view(SQUARE, SQUARE, -1, down, right, made)
        found = found.permute(2, 3, 0, 4, 1, 5)
        if down * SQUARE == height and right * SQUARE == width:
            out[part].view(found.shape).copy_(found)
        else:
            out[part] = found.reshape(-1, down * SQUARE, right * SQUARE, made)[:, :height, :width]
    return out.permute(0, 3, 1, 2)


def _by_kernel(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by the kernel, (C', C, 3, 3): all three transformations backwards."""
    pixels, slopes = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    (_, height, width, read), made = pixels.shape, slopes.shape[3]
    forth = OUTPUT.to(x).T
    total = x.new_zeros(REACH**2, read, made)
    for part, squares in _squares(pixels):
        down, right = squares.shape[3:5]
        ends = F.pad(slopes[part], (0, 0, 0, right * SQUARE - width, 0, down * SQUARE - height))
        ends = ends.reshape(-1, down, SQUARE, right, SQUARE, made).permute(2, 4, 0, 1, 3, 5).reshape(SQUARE**2, -1)
        places = (forth @ ends).view(REACH**2, -1, made)
        total.baddbmm_(_transformed(squares).transpose(1, 2), places)
    return (KERNEL.to(x).T @ total.view(REACH**2, -1)).view(3, 3, read, made).permute(3, 2, 0, 1)


def _transformed(squares: Tensor) -> Tensor:
    """Squares of the input in the other basis: (6, 6, b, down, right, C) -> (36, b down right, C)."""
    return (INPUT.to(squares) @ squares.reshape(REACH**2, -1)).view(REACH**2, -1, squares.shape[5])


def _squares(pixels: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some images at once, as a slice, and their overlapping squares, (6, 6, b, down, right, C)."""
    count, height, width, channels = pixels.shape
    down, right = -(-height // SQUARE), -(-width // SQUARE)
    at_once = max(1, SQUARES // (down * right))
    high, wide = down * SQUARE + 2, right * SQUARE + 2
    framed = pixels.new_zeros(min(at_once, count), high, wide, channels)
    for start in range(0, count, at_once):
        part = slice(start, min(start + at_once, count))
        size = part.stop - start
        framed[:size, 1 : height + 1, 1 : width + 1] = pixels[part]
        row, image = wide * channels, high * wide * channels
        shape = (REACH, REACH, size, down, right, channels)
        yield part, framed.as_strided(shape, (row, channels, image, SQUARE * row, SQUARE * channels, 1))
