"""Pictures that move: an animated GIF, which every browser, chat and slide shows without a player, or an animated PNG.

Invariant: grey frames are exact, as are all frames of a PNG; a colour frame of a GIF is as near as a palette of 256
colours of its own allows.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ddpm_cli.pixels import Pixels
from ddpm_cli.render.images import png_text, to_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


def gif(frames: Sequence[Pixels], milliseconds: int = 60, hold: int = 1500) -> bytes:
    """An animated GIF that loops for ever.

    Args:
        frames: at least one picture, uint8 (C, H, W), all of one shape, C = 1 or 3. Equal neighbours are stored once
            and last as long as both.
        milliseconds: time of a frame; the format counts in tens, and viewers slow anything below 20 down to 100.
        hold: time of the last frame, the one to look at.
    """
    first, *rest = [_indexed(frame) for frame in frames]
    durations = [milliseconds] * len(rest) + [hold]
    buffer = io.BytesIO()
    # optimize=False: palettes trimmed to the greys in use are legal, but Pillow 13 reads such frames back shifted.
    first.save(buffer, "gif", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
    return buffer.getvalue()


def apng(
    frames: Sequence[Pixels], milliseconds: int = 60, hold: int = 1500, text: Mapping[str, str] | None = None
) -> bytes:
    """An animated PNG that loops for ever, exact in colour too; arguments as for :func:`gif`.

    Args:
        text: where it comes from, as for :func:`ddpm_cli.render.images.png`.
    """
    first, *rest = [to_pillow(frame) for frame in frames]
    durations = [milliseconds] * len(rest) + [hold]
    buffer = io.BytesIO()
    first.save(
        buffer, "png", save_all=True, append_images=rest, duration=durations, loop=0, pnginfo=png_text(text or {})
    )
    return buffer.getvalue()


Film = Literal["gif", "apng"]
FILMS: Mapping[str, Callable[..., bytes]] = {"gif": gif, "apng": apng}


def _indexed(picture: Pixels) -> "PillowImage":
    """Grey as it is, since 256 greys are a palette; colour in the 256 colours that fit it best.

    The palette comes from a thumbnail, and its k-means ends when 1 % of the pixels still change: on noisy photographs
    that is fifteen times as fast as the whole of it, and adds 3 % to the error. No dithering: on gradients it was
    measured to add error, speckles and bytes, and it breaks the blocks of enlarged pixels.
    """
    from PIL import Image

    image = to_pillow(picture)
    if image.mode == "L":
        return image
    thumbnail = image.resize((min(image.width, 128), min(image.height, 128)), Image.Resampling.NEAREST)
    still = max(1, thumbnail.width * thumbnail.height // 100)
    return image.quantize(palette=thumbnail.quantize(256, kmeans=still), dither=Image.Dither.NONE)
