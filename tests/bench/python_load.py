"""What wrk does with wrk.lua, for machines without wrk: one thread, sockets, no library to keep up to date."""

import json
import re
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NEXT_TOKEN = re.compile(rb'"refreshToken":"([^"]+)"')
# How long responses may be late after the end.
LATE_S = 20


@dataclass
class Client:
    """One connection and what it has received of its response."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    sent_at: float = 0.0

    def send(self, request: bytes) -> None:
        """Sends the next request."""
        self.received.clear()
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def complete(self) -> bool:
        """Reads what has arrived; returns whether that is the whole response. Raises OSError at its end."""
        if not (more := self.socket.recv(1 << 16)):
            raise ConnectionResetError
        self.received += more
        end = self.received.find(HEAD_END)
        length = LENGTH.search(self.received, 0, end) if end >= 0 else None
        return length is not None and len(self.received) >= end + len(HEAD_END) + int(length[1])


def main(url: str, connections: str, seconds: str, *words: str) -> int:
    """Runs the load; prints its figures as wrk.lua does."""
    file, tokens, tag, unique, placeholder, expected = words
    requests = [text for text in Path(file).read_bytes().split(b"\0") if text]
    carried = deque(Path(tokens).read_bytes().split())
    address = urlsplit(url)

    def texts() -> Iterator[bytes]:
        for number in count(1):
            text = requests[number % len(requests)].replace(unique.encode(), f"{tag}{number:07d}".encode())
            yield text.replace(placeholder.encode(), carried.popleft()) if carried else text

    selector, text = selectors.DefaultSelector(), texts()
    open_clients = int(connections)
    ok = bad = lost = 0
    first_bad, times = "", list[float]()
    started = time.perf_counter()
    end = started + float(seconds)
    for _ in range(open_clients):
        client = Client(socket.create_connection((address.hostname, address.port)))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(next(text))
    while open_clients and time.perf_counter() < end + LATE_S:
        for key, _ in selector.select(1):
            client = key.data
            try:
                if not client.complete():
                    continue
            except OSError:
                lost += 1
                selector.unregister(client.socket)
                open_clients -= 1
                continue
            now = time.perf_counter()
            times.append(now - client.sent_at)
            if client.received[9:10] == b"2" and expected.encode() in client.received:
                ok += 1
            else:
                bad, first_bad = bad + 1, first_bad or repr(bytes(client.received[:300]))
            if token := NEXT_TOKEN.search(client.received):
                carried.append(bytes(token[1]))
            if now < end:
                client.send(next(text))
            else:
                selector.unregister(client.socket)
                open_clients -= 1
    elapsed = time.perf_counter() - started
    times.sort()
    percentiles = {f"p{part}": times[len(times) * part // 100] * 1e6 for part in (50, 95, 99) if times}
    counts = {"ok": ok, "bad": bad, "first_bad": first_bad, "lost": lost + open_clients, "us": elapsed * 1e6}
    sys.stdout.write(f"LOAD {json.dumps(counts | percentiles)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
