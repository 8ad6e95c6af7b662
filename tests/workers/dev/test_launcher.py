"""`make run`: what it starts, what it keeps alive, what it stops and what it refuses."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import psycopg2
import pytest
import redis

from workers.dev import settings

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stubborn'); time.sleep(600)"
)


def test_it_migrates_seeds_serves_and_says_so(checkout):
    checkout.write("db/migrate.py", "def up(url):\n    open('migrated', 'w').write(url)\n")
    checkout.write(
        "api/people.py",
        "import sys\nassert open('migrated').read()\nopen('seeded', 'w').write(sys.argv[1])\n",
    )
    checkout.write(".env", "APP_ENV=test\nEMPTY=\nPORT=1\n")
    checkout.write(
        "Procfile",
        "# ours\nrelease: false\nweb: python web.py\njob: HERE=1 env && sleep 600\n",
    )
    launcher = checkout.start(PROCESSES="job=2")
    checkout.ready(launcher)
    assert (checkout.root / "seeded").read_text() == "demo"
    assert set(checkout.pids) == {"web.1", "job.1", "job.2"}
    assert "web.1 | serving test 64" in checkout.out
    assert "job.2 | EMPTY=\n" in checkout.out  # an empty setting is a setting
    assert f"job.1 | DATABASE_URL={checkout.environ['DATABASE_URL']}" in checkout.out
    assert checkout.stack == {
        "BASE_URL": f"http://127.0.0.1:{checkout.environ['PORT']}",
        "DATABASE_URL": checkout.environ["DATABASE_URL"],
        "REDIS_URL": checkout.environ["REDIS_URL"],
    }
    assert (checkout.root / ".data/stack.env").stat().st_mode & 0o777 == 0o600
    assert (checkout.root / ".data/secrets.env").stat().st_mode & 0o777 == 0o600


def test_a_dollar_in_a_secret_is_a_dollar(tmp_path):
    (tmp_path / "Procfile").write_text("web: true\n")
    (tmp_path / ".env").write_text("JWT_SECRET=a$b${HOME}c\nPASSWORD_PEPPER='${JWT_SECRET}'\n")
    read = settings.read(tmp_path, {})
    assert read.environ == {"JWT_SECRET": "a$b${HOME}c", "PASSWORD_PEPPER": "${JWT_SECRET}"}


def test_ctrl_c_stops_everything(checkout, gone):
    checkout.write("Procfile", "web: python web.py\njob: sleep 600 & sleep 600\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    pids = checkout.pids
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(20) == 0
    gone(pids.values())
    assert not (checkout.root / ".data/stack.env").exists()
    assert checkout.err == ""


def test_a_second_ctrl_c_does_not_wait_for_the_stubborn(checkout, until):
    checkout.write("stubborn.py", STUBBORN)
    checkout.write("Procfile", "web: python web.py\njob: python stubborn.py\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    until(lambda: "job.1 | stubborn" in checkout.out)
    began = time.monotonic()
    launcher.send_signal(signal.SIGINT)
    until(lambda: not web_listens(checkout))
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(20) == 0
    assert time.monotonic() - began < 9


def test_when_make_is_gone_it_stops(checkout, gone, until):
    make = checkout.start(through=["sh", "-c", '"$@" & wait', "make"], MAKELEVEL="1")
    checkout.ready(make)
    pids = checkout.pids
    make.kill()
    make.wait()
    gone(pids.values())
    until(lambda: not (checkout.root / ".data/stack.env").exists())


def test_a_process_that_dies_is_started_again(checkout, until):
    checkout.write("Procfile", "web: python web.py\njob: false\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    before = checkout.pids["web.1"]
    os.kill(before, signal.SIGKILL)
    until(lambda: checkout.pids.get("web.1", before) != before)
    until(lambda: web_listens(checkout))
    until(lambda: "job.1 | ended with 1, starting again in 0.4 s" in checkout.out)
    assert "job.1 | ended with 1, starting again now" in checkout.out
    assert "web.1 | was killed by SIGKILL, starting again now" in checkout.out


def test_what_a_killed_process_left_in_its_group_does_not_hold_the_port(checkout, until):
    checkout.write("parent.py", "import subprocess, sys\nsubprocess.run([sys.executable, 'web.py'])\n")
    checkout.write("Procfile", "web: python parent.py\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    os.kill(checkout.pids["web.1"], signal.SIGKILL)
    until(lambda: checkout.out.count("web.1 | serving") == 2)
    until(lambda: web_listens(checkout))


def test_a_process_that_refuses_its_settings_stops_the_start(checkout):
    checkout.write("bad.py", "import sys\nsys.exit(sys.stderr.write('RATE_LIMIT_API: what?\\n') and 2)\n")
    checkout.write("Procfile", "web: python web.py\njob: python bad.py\n")
    code, err = checkout.refusal()
    assert (code, err) == (2, "job.1 refuses its settings\n")
    assert "job.1 | RATE_LIMIT_API: what?" in checkout.out


SLOW_TO_REFUSE = """
import subprocess, sys
from workers.dev.output import Output
from workers.dev.supervisor import Child, Stop, Supervisor

def spawn(output):
    return subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"], stdout=output, start_new_session=True)

supervisor = Supervisor(Output(["job"]), lambda pids: None)
supervisor.start(Child("job", spawn)).born -= 60
try:
    supervisor.forever()
except Stop as stop:
    print(stop.code, stop.reason)
"""


def test_a_process_that_needs_a_minute_to_refuse_its_settings_stops_the_start_too(root):
    ran = subprocess.run(
        [sys.executable, "-c", SLOW_TO_REFUSE],
        cwd=root,
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert ran.stdout.endswith("2 job refuses its settings\n")


def test_a_failed_seed_stops_the_start_with_its_last_line(checkout):
    checkout.write("api/people.py", "raise SystemExit('no users today')")
    assert checkout.refusal() == (1, "seed: no users today\n")


def test_there_are_no_demo_users_in_production(checkout):
    checkout.write("api/people.py", "raise SystemExit('never')")
    launcher = checkout.start(APP_ENV="production", JWT_SECRET="x" * 32, PASSWORD_PEPPER="y" * 32)
    checkout.ready(launcher)
    assert "Paywright-demo-1" not in checkout.out


def test_secrets_in_rotation_reach_the_processes(checkout):
    checkout.write(
        "web.py",
        "import os, sys\nprint(os.environ['JWT_SECRET'], os.environ['JWT_SECRET_OTHER'])\nsys.exit(2)\n",
    )
    (checkout.root / ".data").mkdir()
    checkout.write(".data/secrets.env", "JWT_SECRET='one # two'\nJWT_SECRET_OTHER=other\n")
    checkout.refusal()
    assert "one # two other" in checkout.out


def test_a_rotated_secret_reaches_a_process_that_is_started_again(checkout, until):
    web = (checkout.root / "web.py").read_text()
    checkout.write(
        "web.py", web.replace('len(os.environ["JWT_SECRET"])', 'os.environ.get("JWT_SECRET_OTHER")')
    )
    launcher = checkout.start()
    checkout.ready(launcher)
    assert "serving development None" in checkout.out
    with (checkout.root / ".data/secrets.env").open("a") as secrets:
        secrets.write("JWT_SECRET_OTHER=the-new-one\n")
    os.kill(checkout.pids["web.1"], signal.SIGTERM)
    until(lambda: "serving development the-new-one" in checkout.out)


def test_in_production_no_secret_is_made_up(checkout):
    checkout.write("web.py", "import os, sys\nsys.exit('JWT_SECRET' in os.environ and 3 or 2)\n")
    code, said = checkout.refusal(APP_ENV="production")
    assert (code, said) == (2, "web.1 refuses its settings\n")


def test_a_failed_migration_stops_the_start_with_one_line(checkout):
    checkout.write("db/migrate.py", "def up(url):\n    raise ValueError('0001.sql was edited\\nand more')\n")
    assert checkout.refusal() == (1, "db.migrate: ValueError: 0001.sql was edited\n")


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("PORT", "http", "PORT: 'http' is no port number"),
        ("PORT", "70000", "PORT: '70000' is no port number"),
        ("HOST", "no such host", "HOST: no such host is no address"),
        ("DATA_DIR", "Procfile", "DATA_DIR: "),
        ("PROCESSES", "wep=2", "PROCESSES: 'wep' is not in the Procfile"),
        ("PROCESSES", "web=many", "PROCESSES: 'web=many' is not name=number"),
        ("DATABASE_URL", "mysql://127.0.0.1/x", "DATABASE_URL: mysql"),
        ("REDIS_URL", "redis://127.0.0.1:port/0", "REDIS_URL: "),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(checkout, setting, value, named):
    code, err = checkout.refusal(**{setting: value})
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(named)


def test_a_port_in_use_is_said_in_one_line(checkout):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = f"PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        assert checkout.refusal(PORT=str(port)) == (2, expected)


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("Procfile", "web: python web.py\nwhat is this\n", "Procfile: line 2"),
        ("Procfile", "web: python 'web.py\n", "Procfile: line 1"),
        ("Procfile", "# nothing\n", "Procfile: there is no process type"),
        (".env", "PORT=1\nthis is no setting\n", ".env: line 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(checkout, file, text, named):
    checkout.write(file, text)
    code, err = checkout.refusal()
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(named)


def test_without_a_port_it_finds_one(checkout, gone):
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 3000)):
        launcher = checkout.start(PORT="")
        checkout.ready(launcher)
        assert not checkout.stack["BASE_URL"].endswith(":3000")


def test_a_second_start_in_the_same_directory_is_refused(checkout):
    launcher = checkout.start()
    checkout.ready(launcher)
    again = subprocess.run(
        launcher.args, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"Paywright is already running in {checkout.root}/.data\n"
    assert launcher.poll() is None


@pytest.mark.parametrize("reader", ["slow", "gone"])
def test_a_reader_that_does_not_read_blocks_nobody(checkout, reader, until):
    chatty = "import sys\nfor n in range(300_000): print('a line of a chatty child', n)\nopen('said', 'w')\n"
    checkout.write("chatty.py", chatty + "import time\ntime.sleep(600)\n")
    checkout.write("Procfile", "web: python web.py\njob: PYTHONUNBUFFERED= python chatty.py\n")
    read, write = os.pipe()
    launcher = checkout.start(stdout=write)
    os.close(write)
    if reader == "gone":
        os.close(read)
    until((checkout.root / "said").exists)
    until((checkout.root / ".data/stack.env").exists)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(20) == 0
    if reader == "slow":
        os.close(read)


def test_an_interrupt_that_only_make_gets_stops_everything(checkout, gone):
    checkout.write("Makefile", "run:\n\t@exec $(LAUNCHER)\n")
    # Whoever runs us in the background may have made us ignore interrupts, and make would inherit it.
    run_make = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    run_make += "os.execvp('make', ['make', '-s', 'run', 'LAUNCHER=' + ' '.join(sys.argv[1:])])"
    make = checkout.start(through=[sys.executable, "-c", run_make])
    checkout.ready(make)
    pids = checkout.pids
    make.send_signal(signal.SIGINT)
    make.wait(30)
    gone(pids.values())


def test_kill_9_of_the_launcher_blocks_no_next_start_and_keeps_the_data(make_checkout):
    checkout = make_checkout(embedded=True)
    checkout.write("parent.py", "import subprocess, sys\nsubprocess.run([sys.executable, 'web.py'])\n")
    checkout.write("Procfile", "web: python parent.py\n")  # the port is a grandchild's
    launcher = checkout.start()
    checkout.ready(launcher)
    remember(checkout, "before")
    launcher.kill()  # and at once, while its children still are on their way out
    launcher = checkout.start()
    checkout.ready(launcher)
    assert remembered(checkout) == ["before"]
    remember(checkout, "again")
    for pid in [launcher.pid, *checkout.pids.values()]:
        os.kill(pid, signal.SIGKILL)
    launcher = checkout.start()
    checkout.ready(launcher)
    assert remembered(checkout) == ["before", "again"]


def test_two_checkouts_run_at_once_and_a_killed_server_comes_back(make_checkout, until, gone):
    both = [make_checkout(name, embedded=True) for name in ("one", "with a space")]
    launchers = [checkout.start() for checkout in both]
    for checkout, launcher in zip(both, launchers, strict=True):
        checkout.ready(launcher)
        remember(checkout, checkout.root.name)
    one, other = both
    assert remembered(other) == ["with a space"]
    for server in ("postgres", "valkey"):
        before = one.pids[server]
        os.kill(before, signal.SIGKILL)
        until(lambda server=server, before=before: one.pids.get(server, before) != before)
    until(lambda: remembered(one, strict=False) == ["one"])
    pids = [*one.pids.values(), *other.pids.values()]
    for launcher in launchers:
        launcher.send_signal(signal.SIGTERM)
    assert [launcher.wait(30) for launcher in launchers] == [0, 0]
    gone(pids)
    made = {path.name for path in one.root.iterdir()} - {"__pycache__"}
    assert made == {"api", "db", "web.py", "Procfile", "out", "err", ".data"}


def web_listens(checkout) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", int(checkout.environ["PORT"]), timeout=5)) as web:
        try:
            web.request("GET", "/health")
            return web.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def remember(checkout, word: str) -> None:
    with closing(psycopg2.connect(checkout.stack["DATABASE_URL"])) as database:
        database.autocommit = True
        cursor = database.cursor()
        cursor.execute("CREATE TABLE IF NOT EXISTS words (n serial, word text)")
        cursor.execute("INSERT INTO words (word) VALUES (%s)", (word,))
    with redis.Redis.from_url(checkout.stack["REDIS_URL"]) as client:
        client.rpush("words", word)


def remembered(checkout, *, strict: bool = True) -> list[str] | None:
    """What both servers know, if they agree."""
    try:
        with closing(psycopg2.connect(checkout.stack["DATABASE_URL"])) as database:
            cursor = database.cursor()
            cursor.execute("SELECT word FROM words ORDER BY n")
            rows = [word for (word,) in cursor.fetchall()]
        with redis.Redis.from_url(checkout.stack["REDIS_URL"]) as client:
            listed = [word.decode() for word in client.lrange("words", 0, -1)]
    except (psycopg2.OperationalError, redis.ConnectionError):
        if strict:
            raise
        return None
    assert rows == listed
    return rows
