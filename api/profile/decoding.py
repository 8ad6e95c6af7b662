"""Makes a small picture of a large one, in a process of its own.

What a picture costs is bounded by that process's limits and ends with it, and so does a decoder that breaks.
The file comes on standard input; the WebP, or the sentence why there is none, goes to standard output. Only
Pillow is imported: the process starts with each picture.
"""

import io
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps

LARGEST_SIDE = 512
# 24 megapixels are what good cameras make; decoded they are a hundred megabytes.
MOST_PIXELS = 25_000_000
# A progressive JPEG costs a pass over all its pixels a scan, and a scan takes 33 bytes. Cameras and editors
# make ten, the finest scripts twenty.
MOST_SCANS = 64

CPU_LIMIT_S = 5
_MEMORY_LIMIT = 1024 * 1024 * 1024
_NICENESS = 10
OOM_SCORE = Path("/proc/self/oom_score_adj")
# The status of the process when the picture is refused.
REFUSED = 3

_FORMATS = ("PNG", "JPEG", "WEBP")
_START_OF_SCAN = b"\xff\xda"

# Pillow's own limit warns first, and raises only at seven times ours: the one above is what counts.
Image.MAX_IMAGE_PIXELS = None


class Refused(Exception):
    """Why a picture is not taken: what it is, or must not be."""


def made_small(file: bytes) -> bytes:
    """The picture as WebP, upright, at most 512 pixels a side, of an animated one the first frame, and
    without anything that was written into it. Raises Refused."""
    if file.startswith(b"\xff\xd8") and file.count(_START_OF_SCAN) > MOST_SCANS:
        raise Refused(f"must not have more than {MOST_SCANS} scans")
    try:
        return _made_small(file)
    except Refused:
        raise
    except Exception as error:
        # Decoders stumble in many ways; whichever it is, the picture is at fault.
        raise Refused("is damaged") from error


def _made_small(file: bytes) -> bytes:
    with Image.open(io.BytesIO(file), formats=_FORMATS) as sent:
        # Of the header only: nothing is decoded yet.
        if sent.width * sent.height > MOST_PIXELS:
            raise Refused(f"must not have more than {MOST_PIXELS // 1_000_000} megapixels")
        # A JPEG is decoded only as large as it is needed.
        sent.draft(None, (2 * LARGEST_SIDE, 2 * LARGEST_SIDE))
        sent.load()
        picture = _eight_bits(sent).convert("RGBA" if sent.has_transparency_data else "RGB")
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    upright = ImageOps.exif_transpose(picture)
    # What is written into a picture comes along with it; only its pixels are kept.
    bare = Image.frombytes(upright.mode, upright.size, upright.tobytes())
    made = io.BytesIO()
    bare.save(made, "WEBP", quality=85)
    return made.getvalue()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits would otherwise turn white."""
    return picture.point(lambda grey: grey / 256).convert("L") if picture.mode.startswith("I") else picture


def main() -> int:
    """Reads, decodes and answers within the limits of this process."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not every system bounds the address space.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    # Payments come first, and where memory is short this process goes first.
    os.nice(_NICENESS)
    with suppress(OSError):
        OOM_SCORE.write_text("1000")
    try:
        sys.stdout.buffer.write(made_small(sys.stdin.buffer.read()))
    except Refused as refused:
        sys.stdout.write(str(refused))
        if refused.__cause__ is not None:
            cause = refused.__cause__
            sys.stderr.write(f"{type(cause).__name__}: {cause}")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
