"""Avatars: upload, decoding, storage, delivery."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from threading import BoundedSemaphore
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image, PngImagePlugin

from actors.media import Media
from api.http import admission
from api.http.admission import slot
from api.profile import decoding, resources
from api.profile.decoding import MAX_PIXELS, MAX_SCANS
from db import postgres, users
from db.users import Role
from tests.api.profile.audit_trail import audited
from tests.makers import error, invalid_fields, visitor, work
from tests.tables import JobRow

BOUNDARY = "a-boundary"
RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(autouse=True)
def empty_store(files):
    for file in files():
        file.unlink()


@pytest.fixture
def files(stores):
    """Returns a function that lists the files of the media store."""
    directory = Path(url2pathname(urlsplit(stores["MEDIA_URL"]).path))
    return lambda: sorted(directory.rglob("*.*"))


def drawn(size=(600, 300), color=RED, mode="RGB", kind="PNG", **more) -> bytes:
    file = io.BytesIO()
    picture = more.pop("picture", None) or Image.new(mode, size, color)
    picture.save(file, kind, **more)
    return file.getvalue()


def part(file: bytes, name="avatar", filename="me.png", media_type="image/png") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {media_type}\r\n\r\n'
    return head.encode() + file + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(person, body: bytes, media_type=f"multipart/form-data; boundary={BOUNDARY}", **headers):
    return person.post("/profile/avatar", body=body, headers={"Content-Type": media_type, **headers})


def send(person, file: bytes, **more):
    return post(person, form(part(file, **more)))


def path_of(result) -> str:
    assert result.status_code == 200, result.text
    return urlsplit(result.json["data"]["avatarUrl"]).path


def shown(client, result) -> Image.Image:
    """Returns the image at the response's avatarUrl."""
    served = client.simulate_get(path_of(result))
    assert served.status_code == 200
    return Image.open(io.BytesIO(served.content))


@pytest.fixture
def in_this_process(monkeypatch):
    """Shrinks images here: for tests of what becomes of an image. A process for each takes as long as a request."""

    def run(_command, *, input, **_more):
        try:
            return subprocess.CompletedProcess([], 0, decoding.shrink(input), b"")
        except decoding.Refused as refused:
            return subprocess.CompletedProcess([], decoding.EXIT_REFUSED, str(refused).encode(), b"")

    here = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(resources, "subprocess", here)


def near(color, other) -> bool:
    return all(abs(one - two) < 30 for one, two in zip(color, other, strict=True))


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_role_can_upload_an_avatar(client, role, kind):
    person = visitor(client, role)
    result = send(person, drawn(kind=kind))
    address = result.json["data"]["avatarUrl"]
    assert address.startswith("http://127.0.0.1:3000/media/avatars/")
    assert person.get("/profile").json["data"] == result.json["data"]
    picture = shown(client, result)
    assert (picture.format, picture.size) == ("WEBP", (512, 256))
    assert near(picture.getpixel((100, 100)), RED)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((600, 300), (512, 256)),
        ((300, 900), (171, 512)),
        ((512, 512), (512, 512)),
        ((40, 20), (40, 20)),
        ((5000, 2), (512, 1)),
    ],
)
def test_a_large_image_is_reduced_and_keeps_its_proportions(client, person, size, small):
    assert shown(client, send(person, drawn(size))).size == small


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("mode", "color", "kind"),
    [
        ("L", 128, "PNG"),
        ("1", 1, "PNG"),
        ("P", 0, "PNG"),
        ("LA", (9, 0), "PNG"),
        ("RGBA", (1, 2, 3, 0), "PNG"),
        ("I;16", 40000, "PNG"),
        ("CMYK", (0, 0, 0, 0), "JPEG"),
        ("L", 7, "JPEG"),
        ("RGBA", (1, 2, 3, 0), "WEBP"),
    ],
)
def test_images_of_every_colour_mode_are_accepted(client, person, mode, color, kind):
    picture = shown(client, send(person, drawn(mode=mode, color=color, kind=kind)))
    assert picture.mode == ("RGBA" if "A" in mode else "RGB")
    if mode == "I;16":
        assert near(picture.getpixel((9, 9)), (156,) * 3)
    if "A" in mode:
        assert picture.getchannel("A").getpixel((9, 9)) == 0


def test_metadata_is_removed_and_the_image_turned_upright(client, person):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "somewhere secret"
    exif.get_ifd(0x8825)[1] = "N"
    halves = Image.new("RGB", (400, 200), RED)
    halves.paste(BLUE, (200, 0, 400, 200))
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "somewhere secret")
    for sent in (
        drawn(picture=halves, kind="JPEG", exif=exif, comment=b"somewhere secret"),
        drawn(picture=halves, kind="WEBP", exif=exif, xmp=b"somewhere secret", lossless=True),
        drawn(picture=halves, exif=exif, pnginfo=text, icc_profile=b"somewhere secret"),
    ):
        assert b"somewhere secret" in sent or b"Comment" in sent
        result = send(person, sent)
        picture = shown(client, result)
        assert picture.size == (200, 400)
        assert near(picture.getpixel((100, 20)), RED)
        assert near(picture.getpixel((100, 380)), BLUE)
        served = client.simulate_get(path_of(result)).content
        assert not [name for name in (b"secret", b"EXIF", b"XMP ", b"ICCP") if name in served]


# In a process of its own: Pillow imports its decoder of MPO when it first meets one.
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "MPO"])
def test_the_first_frame_of_an_animation_is_kept(client, person, kind):
    moving = drawn(kind=kind, save_all=True, append_images=[Image.new("RGB", (600, 300), BLUE)], duration=100)
    picture = shown(client, send(person, moving))
    assert getattr(picture, "n_frames", 1) == 1
    assert near(picture.getpixel((9, 9)), RED)


@pytest.mark.parametrize(
    "file",
    [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", drawn(kind="GIF"), drawn(kind="BMP"), drawn(kind="TIFF"), drawn(kind="ICO"), b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"<html>", b"\0"],
)  # fmt: skip
def test_other_content_is_refused_whatever_its_name(person, files, file):
    result = send(person, file, filename="me.png", media_type="image/png")
    assert error(result) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == ["avatar"]
    assert files() == []


@pytest.mark.usefixtures("in_this_process")
def test_an_image_is_accepted_whatever_its_name(person):
    assert send(person, drawn(), filename="../../me.exe", media_type="text/plain").status_code == 200


def png(width, height, *chunks: tuple[bytes, bytes]) -> bytes:
    """Returns a PNG whose header names this size and whose data holds hardly a pixel."""
    written = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]:
        written += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return written


def webp_bomb() -> bytes:
    small, other = (Image.new("RGB", (10, 10), color) for color in (RED, BLUE))
    file = bytearray(drawn(picture=small, kind="WEBP", save_all=True, append_images=[other]))
    canvas = file.index(b"VP8X") + 12
    file[canvas : canvas + 6] = (7999).to_bytes(3, "little") * 2
    return bytes(file)


@pytest.mark.parametrize(
    "bomb",
    [png(100_000, 100_000), png(2**31 - 1, 2**31 - 1), png(5000, MAX_PIXELS // 5000 + 1), webp_bomb()],
    ids=["large", "largest", "a row too many", "webp"],
)
def test_a_decompression_bomb_is_refused_before_it_is_decoded(person, files, monkeypatch, bomb):
    result = send(person, bomb)
    assert invalid_fields(result) == {"avatar"}
    assert "megapixels" in result.json["error"]["details"]["fields"][0]["message"]
    assert files() == []
    monkeypatch.setattr(Image.Image, "load", lambda _self: pytest.fail("the image was decoded"))
    for plugin in (PngImagePlugin.PngImageFile, Image.OPEN["WEBP"][0]):
        monkeypatch.setattr(plugin, "load", lambda _self: pytest.fail("the image was decoded"))
    with pytest.raises(decoding.Refused, match="megapixels"):
        decoding.shrink(bomb)


def progressive(empty_scans: int) -> bytes:
    """Returns a progressive JPEG with this many additional scans, each of which costs a pass and changes nothing."""
    whole = drawn((2000, 2000), mode="L", color=9, kind="JPEG", progressive=True)
    table = b"\xff\xc4\x00\x14\x11" + b"\x01" + bytes(15) + b"\x00"
    # One component, its first AC coefficient, refined from bit 1 to bit 0.
    scan = b"\xff\xda\x00\x08\x01\x01\x01\x01\x01\x10" + b"\x00" * 8
    return whole[:-2] + (table + scan) * empty_scans + whole[-2:]


def test_a_jpeg_with_too_many_scans_is_refused_before_it_is_decoded(person, files, monkeypatch):
    result = send(person, progressive(1000))
    assert invalid_fields(result) == {"avatar"}
    assert "scans" in result.json["error"]["details"]["fields"][0]["message"]
    assert files() == []
    assert progressive(0).count(b"\xff\xda") < MAX_SCANS / 4
    assert send(person, progressive(0)).status_code == 200
    monkeypatch.setattr(Image, "open", lambda *_args, **_more: pytest.fail("the image was opened"))
    with pytest.raises(decoding.Refused, match="scans"):
        decoding.shrink(progressive(1000))


def decoder(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", script]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "too long"),
        ("import time; time.sleep(60)", "too long"),
        ("raise SystemExit(1)", "damaged"),
    ],
    ids=["CPU limit", "timeout", "crash"],
)
def test_an_image_that_fails_the_decoder_is_refused(person, files, monkeypatch, script, message):
    monkeypatch.setattr(resources, "_DECODER", decoder(script))
    # Only what does not end by itself: on a loaded machine a process takes seconds to start.
    monkeypatch.setattr(resources, "_DECODER_DEADLINE_S", 1 if "sleep" in script else 60)
    result = send(person, drawn())
    assert invalid_fields(result) == {"avatar"}
    assert message in result.json["error"]["details"]["fields"][0]["message"]
    assert files() == []


def test_the_decoder_has_limits_and_no_secrets(person, monkeypatch, tmp_path):
    script = "import os, resource, sys; sys.stdout.write(str(os.environ)); sys.exit(3)"
    monkeypatch.setattr(resources, "_DECODER", decoder(script))
    message = send(person, drawn()).json["error"]["details"]["fields"][0]["message"]
    assert "SECRET" not in message
    assert "DATABASE_URL" not in message
    set_to = {}
    monkeypatch.setattr(resource, "setrlimit", lambda which, to: set_to.update({which: to}))
    monkeypatch.setattr(os, "nice", lambda _by: None)
    monkeypatch.setattr(decoding, "OOM_SCORE_FILE", tmp_path / "score")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"nothing")))
    assert decoding.main() == decoding.EXIT_REFUSED == resources._EXIT_REFUSED
    assert set_to[resource.RLIMIT_CPU] == (decoding.CPU_LIMIT_S, decoding.CPU_LIMIT_S)
    assert resource.RLIMIT_AS in set_to
    assert (tmp_path / "score").read_text() == "1000"


def test_an_upload_is_refused_while_too_many_are_decoded(person, files, monkeypatch):
    decoders = BoundedSemaphore(1)
    monkeypatch.setattr(resources, "_decoders", decoders)
    monkeypatch.setattr(admission, "SLOT_WAIT_S", 0.01)
    with slot(decoders):
        result = send(person, drawn())
    assert error(result) == (503, "SERVICE_UNAVAILABLE")
    assert result.headers["Retry-After"] == "5"
    assert files() == []
    assert send(person, drawn()).status_code == 200


NOISE = drawn(picture=Image.effect_noise((300, 300), 50), kind="JPEG")


@pytest.mark.parametrize(
    "file",
    [
        drawn()[:-60], drawn(kind="WEBP")[:40], NOISE[: len(NOISE) // 2], drawn()[:9], png(0, 0), png(100, 100), b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n" + bytes(100), b"RIFF\0\0\0\0WEBP",
        png(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))), png(9, 9, (b"eXIf", b"garbage")),
    ],
)  # fmt: skip
def test_a_damaged_image_is_refused(person, files, file):
    assert invalid_fields(send(person, file)) == {"avatar"}
    assert files() == []


def test_no_truncation_or_wrong_byte_crashes_the_decoder():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = drawn((20, 10), kind=kind, exif=exif)
        for at in range(len(whole)):
            for file in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
                try:
                    decoding.shrink(file)
                except decoding.Refused:
                    continue


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (form(), {"avatar"}),
        (form(part(b"")), {"avatar"}),
        (form(part(drawn(), name="picture")), {"body"}),
        (form(part(drawn()), part(drawn())), {"body"}),
        (form(part(drawn()), part(b"1", name="more")), {"body"}),
        (part(drawn()), {"body"}),
        (form(part(drawn()))[:-40], {"body"}),
        (b"", {"body"}),
        (b"nonsense", {"body"}),
        (b"--a-boundary\r\nContent-Disposition: form-data; name=\xff\xfe\r\n\r\nx\r\n--a-boundary--", {"body"}),
        (b"--a-boundary\r\n" + b"X: y\r\n" * 5000 + b"\r\n", {"body"}),
    ],
    ids=["no part", "empty", "another field", "twice", "one more", "not ended", "cut off", "nothing", "nonsense", "no text", "long head"],
)  # fmt: skip
def test_the_form_must_have_exactly_the_avatar_field(person, files, body, wrong):
    assert invalid_fields(post(person, body)) == wrong
    assert files() == []


@pytest.mark.parametrize(
    ("media_type", "refusal"),
    [
        ("image/png", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("application/json", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("application/x-www-form-urlencoded", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("multipart/form-data", (400, "VALIDATION_ERROR")),
        ("multipart/form-data; boundary=" + "x" * 71, (400, "VALIDATION_ERROR")),
        ("multipart/form-data; boundary=other", (400, "VALIDATION_ERROR")),
    ],
)
def test_the_content_type_must_be_a_form_with_its_boundary(person, media_type, refusal):
    assert error(post(person, form(part(drawn())), media_type)) == refusal


def test_a_compressed_form_is_refused(person):
    assert error(post(person, form(part(drawn())), **{"Content-Encoding": "gzip"})) == (
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    )


class Unreadable:
    def read(self, *_):
        raise AssertionError("the body was read")

    readline = readlines = __iter__ = read


def test_a_body_is_not_read_without_a_token_or_beyond_the_limit(client, person):
    def post(size, **headers):
        headers = {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Length": str(size),
            **headers,
        }
        return client.simulate_post(
            "/api/profile/avatar", headers=headers, extras={"wsgi.input": Unreadable()}
        )

    mib = 1024 * 1024
    assert error(post(4 * mib)) == (401, "UNAUTHORIZED")
    token = {"Authorization": f"Bearer {person.token}"}
    assert error(post(5 * mib + 1, **token)) == (413, "PAYLOAD_TOO_LARGE")
    assert error(person.send("PUT", "/profile", body=b"x" * (mib + 1))) == (413, "PAYLOAD_TOO_LARGE")


def test_five_mebibytes_are_the_limit_of_an_upload(person):
    available = 5 * 1024 * 1024 - len(form(part(b"")))
    file = drawn() + bytes(available - len(drawn()))
    assert send(person, file).status_code == 200
    assert error(send(person, file + b"x")) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.usefixtures("in_this_process")
def test_the_previous_avatar_is_removed_by_a_job(client, person, files):
    first = path_of(send(person, drawn(color=RED)))
    second = path_of(send(person, drawn(color=BLUE)))
    assert first != second
    # The job was enqueued by the change and has not run.
    assert client.simulate_get(first).status_code == 200
    assert work() == ["media.discard"]
    assert client.simulate_get(first).status_code == 404
    assert client.simulate_get(second).status_code == 200
    assert len(files()) == 1


def test_a_deleted_avatar_is_gone(client, person, files):
    path = path_of(send(person, drawn()))
    for _ in range(2):
        result = person.send("DELETE", "/profile/avatar")
        assert (result.status_code, result.json["data"]["avatarUrl"]) == (200, None)
    assert person.get("/profile").json["data"]["avatarUrl"] is None
    assert audited(person) == [("profile.avatar.changed", {}), ("profile.avatar.deleted", {})]
    assert client.simulate_get(path).status_code == 404
    assert files() == []


def test_closing_an_account_removes_its_avatar(client, person, files):
    send(person, drawn())
    admin = visitor(client, Role.ADMIN)
    assert admin.send("DELETE", f"/admin/users/{person.user['id']}").status_code == 200
    work()
    assert files() == []


def test_a_failed_change_leaves_no_file(person, files, monkeypatch):
    monkeypatch.setattr(users, "update_profile", lambda *_args, **_columns: 1 / 0)
    with postgres.database.atomic():
        assert error(send(person, drawn())) == (500, "INTERNAL_ERROR")
    assert len(files()) == 1
    assert work() == ["media.discard"]
    assert files() == []
    assert audited(person) == []


def test_a_store_failure_is_answered_with_503_and_cleaned_up_later(client, person, files, monkeypatch):
    path = path_of(send(person, drawn()))
    kept = files()

    class Full(LocalFileSystem):  # type: ignore[misc]
        def pipe_file(self, path, value, **_more):
            super().pipe_file(path, value[:10])
            raise OSError("no space left")

        def cat_file(self, *_args, **_more):
            raise OSError("the file is gone")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem", Full)
    for result in (send(person, drawn()), client.simulate_get(path)):
        assert error(result) == (503, "SERVICE_UNAVAILABLE")
        assert result.headers["Retry-After"] == "5"
        assert "space" not in result.text
    monkeypatch.undo()
    assert len(files()) == 2
    assert work() == ["media.discard"]
    assert files() == kept
    assert path_of(person.get("/profile")) == path


def test_an_avatar_whose_removal_has_begun_is_not_used(person, files, monkeypatch):
    put = Media.put

    def slowly(self, name, content):
        put(self, name, content)
        JobRow.update(attempts=1).where(JobRow.name == "media.discard").execute()

    monkeypatch.setattr(Media, "put", slowly)
    assert error(send(person, drawn())) == (503, "SERVICE_UNAVAILABLE")
    assert person.get("/profile").json["data"]["avatarUrl"] is None
    work()
    assert files() == []


def test_an_avatar_is_public_and_cached_for_ever(client, person):
    path = path_of(send(person, drawn()))
    served = client.simulate_get(path)
    headers = {
        name: served.headers[name]
        for name in (
            "Content-Type",
            "Cache-Control",
            "X-Content-Type-Options",
            "Cross-Origin-Resource-Policy",
        )
    }
    assert headers == {
        "Content-Type": "image/webp",
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    assert "default-src 'self'" in served.headers["Content-Security-Policy"]
    assert "RateLimit-Limit" not in served.headers
    head = client.simulate_head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(served.content))
    again = client.simulate_get(path, headers={"If-None-Match": served.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_an_avatars_name_cannot_be_guessed(person):
    names = [Path(path_of(send(person, drawn()))).stem for _ in range(3)]
    assert len(set(names)) == 3
    # In hex, so four bits a character.
    assert all(len(name) * 4 >= 128 for name in names)


NO_AVATARS = ("x", "0" * 40 + ".webp", "0" * 40 + ".png", "..", ".", "..%2F..%2F..%2Fetc%2Fpasswd", "../../../etc/passwd", "%2e%2e/%2e%2e/secret", "..\\secret", "%00", "a%00.webp", "%C0%AE%C0%AE", "", "secret.webp", "{name}")  # fmt: skip


def test_no_other_file_is_served(client, person, files):
    send(person, drawn())
    (files()[0].parent / "secret.webp").write_text("secret")
    (files()[0].parent.parent / "secret.webp").write_text("secret")
    answers = {name: error(client.simulate_get(f"/media/avatars/{name}")) for name in NO_AVATARS}
    assert answers == dict.fromkeys(NO_AVATARS, (404, "NOT_FOUND"))


def test_avatars_can_be_kept_in_any_fsspec_store(settings):
    store = Media(settings.model_copy(update={"media_url": "memory://bucket/pictures"}))
    store.put("avatars/a.webp", b"picture")
    assert fsspec.filesystem("memory").cat_file("/bucket/pictures/avatars/a.webp") == b"picture"
    assert store.get("avatars/a.webp") == b"picture"
    store.remove("avatars/a.webp")
    store.remove("avatars/a.webp")
    assert store.get("avatars/a.webp") is None


def test_the_media_directory_may_have_any_name(settings, tmp_path):
    place = tmp_path / "fünf % of all" / "media"
    store = Media(settings.model_copy(update={"media_url": place.as_uri()}))
    store.put("avatars/a.webp", b"picture")
    assert (place / "avatars/a.webp").read_bytes() == b"picture"
