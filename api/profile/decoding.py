"""Makes a small image of an uploaded one, in a process of its own.

The limits of the process bound what an image can cost, and a decoder that crashes takes only this process
along. The file comes on standard input. The WebP, or the reason for a refusal, goes to standard output. The
process starts anew for each image, so this module imports only Pillow.
"""

import io
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

# WebPImagePlugin is named, or saving as WebP would import the plugins of all forty formats.
from PIL import Image, ImageOps, WebPImagePlugin  # noqa: F401

MAX_SIDE_PX = 512
# Good cameras make 24 megapixels, which take about 100 MB when decoded.
MAX_PIXELS = 25_000_000
# Each scan of a progressive JPEG costs a pass over all pixels, for as little as 33 bytes of file. Cameras and
# editors write about ten scans, the finest scan scripts twenty.
MAX_SCANS = 64

CPU_LIMIT_S = 5
_MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024
_NICENESS = 10
OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")
# The exit status when the image is refused.
EXIT_REFUSED = 3

_FORMATS = ("PNG", "JPEG", "WEBP")
_START_OF_SCAN = b"\xff\xda"

# Pillow's own limit only warns below 179 megapixels, seven times MAX_PIXELS, which is checked instead.
Image.MAX_IMAGE_PIXELS = None


class Refused(Exception):
    """The image is refused; the message completes "The avatar …"."""


def shrink(file: bytes) -> bytes:
    """Returns the image as WebP: upright, at most MAX_SIDE_PX a side, its first frame, without metadata.

    Raises Refused.
    """
    if file.startswith(b"\xff\xd8") and file.count(_START_OF_SCAN) > MAX_SCANS:
        raise Refused(f"must not have more than {MAX_SCANS} scans")
    try:
        return _shrink(file)
    except Refused:
        raise
    except Exception as error:
        # Pillow's decoders raise many kinds of errors for damaged files.
        raise Refused("is damaged") from error


def _shrink(file: bytes) -> bytes:
    with Image.open(io.BytesIO(file), formats=_FORMATS) as uploaded:
        # The size comes from the header: nothing is decoded yet.
        if uploaded.width * uploaded.height > MAX_PIXELS:
            raise Refused(f"must not have more than {MAX_PIXELS // 1_000_000} megapixels")
        # Lets the JPEG decoder skip detail that the reduced image does not need.
        uploaded.draft(None, (2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX))
        uploaded.load()
        image = _to_eight_bits(uploaded).convert("RGBA" if uploaded.has_transparency_data else "RGB")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    upright = ImageOps.exif_transpose(image)
    # `save` would write the metadata of the original along: only the pixels are taken over.
    bare = Image.frombytes(upright.mode, upright.size, upright.tobytes())
    output = io.BytesIO()
    bare.save(output, "WEBP", quality=85)
    return output.getvalue()


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scales grey images of 16 bits; `convert` alone would clip them to white."""
    return image.point(lambda grey: grey / 256).convert("L") if image.mode.startswith("I") else image


def main() -> int:
    """Sets the limits of this process, then reads, shrinks and writes the image. Returns the exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # macOS does not support a limit of the address space.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    # Payments have priority over images, and when memory runs out the kernel is to kill this process first.
    os.nice(_NICENESS)
    with suppress(OSError):
        OOM_SCORE_FILE.write_text("1000")
    try:
        sys.stdout.buffer.write(shrink(sys.stdin.buffer.read()))
    except Refused as refused:
        sys.stdout.write(str(refused))
        if refused.__cause__ is not None:
            cause = refused.__cause__
            sys.stderr.write(f"{type(cause).__name__}: {cause}")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
