"""A remote media store answers in the patched web process, and delays no other request meanwhile."""

import subprocess
import sys

CODE = """
from gevent import monkey
monkey.patch_all(os=False, signal=False, queue=False)
import asyncio, os, sys, gevent
from fsspec.asyn import get_loop, sync
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem
from actors.deadlines import within
from api import greenlets

greenlets.start_asyncio()
files = AsyncFileSystemWrapper(LocalFileSystem(auto_mkdir=True), asynchronous=False)

def stored(number):
    path = f"{sys.argv[1]}/{number}"
    files.pipe_file(path, b"picture %d" % number)
    return files.cat_file(path)

calls = [gevent.spawn(within, 10, lambda number=number: stored(number)) for number in range(10)]
gevent.joinall(calls)
assert [call.value for call in calls] == [b"picture %d" % number for number in range(10)]

async def hang():
    await asyncio.sleep(60)

waiting = gevent.spawn(within, 0.2, lambda: sync(get_loop(), hang))
gevent.sleep(0.01)
assert not waiting.dead
waiting.join(10)
assert isinstance(waiting.exception, TimeoutError)
sys.stdout.write("served")
sys.stdout.flush()
os._exit(0)
"""


def test_calls_run_side_by_side_and_end_at_their_deadline(root, tmp_path):
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "served", ended.stderr
