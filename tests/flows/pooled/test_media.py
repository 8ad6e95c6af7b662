"""An avatar, through real processes: the API stores it, a worker removes it."""

import io

import httpx
from PIL import Image

from tests.makers import until


def test_a_picture_is_shown_replaced_and_removed(stack):
    customer = stack.customer()

    def send(color: str) -> str:
        file = io.BytesIO()
        Image.new("RGB", (800, 600), color).save(file, "PNG")
        files = {"avatar": ("me.png", file.getvalue(), "image/png")}
        answer = stack.http.post("/api/profile/avatar", files=files, headers=customer.headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["avatarUrl"])

    # Where browsers find it, on whichever port.
    first = send("red")
    assert first.startswith(f"http://127.0.0.1:{stack.port}/media/avatars/")
    assert httpx.get(first, verify=False).headers["Content-Type"] == "image/webp"
    second = send("blue")
    until(lambda: httpx.get(first, verify=False).status_code == 404)
    assert httpx.get(second, verify=False).status_code == 200
    stack.http.delete("/api/profile/avatar", headers=customer.headers).raise_for_status()
    until(lambda: httpx.get(second, verify=False).status_code == 404)
    assert [path for path in (stack.directory / "media").rglob("*") if path.is_file()] == []
