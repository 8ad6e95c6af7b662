"""Pictures: whatever somebody sends becomes a small one of our own making, or is refused."""

import io
import threading

import structlog
from PIL import Image, ImageOps

from api.gateway.body import Invalid
from db.fault import Code, Fault

log = structlog.get_logger(__name__)

LARGEST_SIDE = 512
# 24 megapixels are what good cameras make; decoded they are a hundred megabytes, so few are at a time.
MOST_PIXELS = 25_000_000
_AT_ONCE = threading.BoundedSemaphore(2)

MEDIA = "image/webp"
KINDS = ("image/png", "image/jpeg", "image/webp")
_FORMATS = ("PNG", "JPEG", "WEBP")

# Pillow's own limit warns first, and raises only at seven times ours: the one below is what counts.
Image.MAX_IMAGE_PIXELS = None


class NotAPicture(Fault):
    """The file must be a PNG, JPEG or WebP picture: its content, whatever its name."""

    code = Code.UNSUPPORTED_MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__({"fields": [{"field": "avatar", "message": "must be a PNG, JPEG or WebP picture"}]})


def small(file: bytes) -> bytes:
    """The picture as WebP, upright, at most 512 pixels a side, of an animated one the first frame, and
    without anything that was written into it. Raises NotAPicture or Invalid."""
    if not _is_one(file):
        raise NotAPicture
    with _AT_ONCE:
        try:
            return _made_small(file)
        except (Invalid, NotAPicture):
            raise
        except Exception as error:
            # Decoders stumble in many ways; whichever it is, the picture is at fault.
            log.info("a picture could not be read", error=f"{type(error).__name__}: {error}")
            raise _wrong("is damaged") from None


def _is_one(file: bytes) -> bool:
    webp = file[:4] == b"RIFF" and file[8:12] == b"WEBP"
    return webp or file.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _made_small(file: bytes) -> bytes:
    with Image.open(io.BytesIO(file), formats=_FORMATS) as sent:
        # Of the header only: nothing is decoded yet.
        if sent.width * sent.height > MOST_PIXELS:
            raise _wrong(f"must not have more than {MOST_PIXELS // 1_000_000} megapixels")
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


def _wrong(message: str) -> Invalid:
    return Invalid({"fields": [{"field": "avatar", "message": message}]})
