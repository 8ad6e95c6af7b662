"""`make run`: what it starts, keeps alive, stops and refuses."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from contextlib import closing
from functools import partial

import psycopg2
import pytest
import redis

from tests.makers import until
from workers.dev import stack
from workers.dev.__main__ import main

REFUSED = "invalid setting: job.1 has an invalid setting: see its line above\n"
# A process whose port is held by a grandchild.
PARENT = "import subprocess, sys\nsubprocess.run([sys.executable, 'web.py'])\n"


def test_it_migrates_seeds_serves_and_says_so(checkout):
    checkout.write("db/migrate.py", "def up(url):\n    open('migrated', 'w').write(url)\n")
    checkout.write(
        "api/cli.py",
        "import sys\nassert open('migrated').read()\nopen('seeded', 'w').write(sys.argv[1])\n",
    )
    checkout.write(".env", "APP_ENV=test\nEMPTY=\nPORT=1\n")
    checkout.write("Procfile", "# ours\nrelease: false\nweb: python web.py\njob: HERE=1 env && sleep 600\n")
    launcher = checkout.start(PROCESSES="job=2")
    checkout.ready(launcher)
    assert (checkout.root / "seeded").read_text() == "seed"
    # `release` is started again and again, and seldom runs.
    until(lambda: set(checkout.pids) == {"web.1", "job.1", "job.2"})
    assert "serving web.1 test" in checkout.out
    # An empty setting is a setting.
    both = ["EMPTY=", f"DATABASE_URL={checkout.environ['DATABASE_URL']}", "HERE=1"]
    each = ["PROCESS_NAME=job.1", "PROCESS_NAME=job.2"]

    def printed() -> bool:
        lines = checkout.out.splitlines()
        return [lines.count(line) for line in both + each] == [2, 2, 2, 1, 1]

    until(printed)
    lines = checkout.out.splitlines()
    assert not any(line.startswith("LOG_FORMAT=") for line in lines)  # no terminal: JSON
    assert checkout.stack == {
        "BASE_URL": f"http://127.0.0.1:{checkout.environ['PORT']}",
        "DATABASE_URL": checkout.environ["DATABASE_URL"],
        "REDIS_URL": checkout.environ["REDIS_URL"],
    }
    assert (checkout.root / ".data/stack.env").stat().st_mode & 0o777 == 0o600
    assert (checkout.root / ".data/secrets.env").stat().st_mode & 0o777 == 0o600


def test_a_dollar_in_a_secret_is_a_dollar(tmp_path):
    (tmp_path / ".env").write_text("JWT_SECRET=a$b${HOME}c\nPASSWORD_PEPPER='${JWT_SECRET}'\n")
    read = stack.settings(tmp_path / ".env", {})
    assert read == {"JWT_SECRET": "a$b${HOME}c", "PASSWORD_PEPPER": "${JWT_SECRET}"}


@pytest.mark.parametrize(
    ("chosen", "console", "log_format"),
    [({}, True, "console"), ({}, False, None), ({"LOG_FORMAT": "json"}, True, "json")],
)
def test_logs_are_for_people_only_in_a_terminal(tmp_path, chosen, console, log_format):
    stores = {"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://redis/0"}
    planned = stack.Stack(tmp_path, stores | chosen, console=console)
    assert planned.environ.get("LOG_FORMAT") == log_format


def test_ctrl_c_stops_everything_the_stubborn_too(checkout, gone):
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('stubborn')\n"
    checkout.write("stubborn.py", stubborn + "time.sleep(600)\n")
    checkout.write("Procfile", "web: python web.py\njob: sleep 600 & sleep 600\nmule: python stubborn.py\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    until(lambda: "stubborn" in checkout.out)
    pids = checkout.pids
    launcher.send_signal(signal.SIGINT)
    until(lambda: not web_listens(checkout))
    launcher.send_signal(signal.SIGINT)  # a second one disturbs nothing
    assert launcher.wait(60) == 0
    gone(pids.values())
    assert not (checkout.root / ".data/stack.env").exists()
    assert checkout.err == ""


def test_when_make_is_gone_it_stops(checkout, gone):
    make = checkout.start(through=["sh", "-c", '"$@" & wait', "make"], MAKELEVEL="1")
    checkout.ready(make)
    pids = checkout.pids
    make.kill()
    make.wait()
    gone(pids.values())
    until(lambda: not (checkout.root / ".data/stack.env").exists())


def test_a_process_that_dies_is_started_again(checkout):
    checkout.write("Procfile", "web: python web.py\njob: false\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    before = checkout.pids["web.1"]
    os.kill(before, signal.SIGKILL)
    until(lambda: is_another(checkout, "web.1", before))
    until(lambda: web_listens(checkout))
    until(lambda: ("job.1", "1", 0.4) in ends(checkout))
    assert {("job.1", "1", 0), ("web.1", "SIGKILL", 0)} <= ends(checkout)


def test_what_a_killed_process_left_in_its_group_does_not_hold_the_port(checkout):
    checkout.write("parent.py", PARENT)
    checkout.write("Procfile", "web: python parent.py\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    os.kill(checkout.pids["web.1"], signal.SIGKILL)
    until(lambda: checkout.out.count("serving web.1") == 2)
    until(lambda: web_listens(checkout))


def test_a_process_that_refuses_its_settings_stops_the_start(checkout):
    checkout.write("bad.py", "import sys\nsys.exit(sys.stderr.write('RATE_LIMIT_API: what?\\n') and 2)\n")
    checkout.write("Procfile", "web: python web.py\njob: python bad.py\n")
    assert checkout.refusal() == (2, "RATE_LIMIT_API: what?\n" + REFUSED)


def test_a_failed_seed_stops_the_start_with_its_own_line(checkout):
    checkout.write("api/cli.py", "raise SystemExit('no users today')")
    assert checkout.refusal() == (1, "no users today\n")


def test_in_production_there_are_no_demo_users_and_no_made_up_secrets(checkout):
    checkout.write("api/cli.py", "raise SystemExit('never')")
    checkout.write("Procfile", "web: python web.py\njob: env && sleep 600\n")
    launcher = checkout.start(APP_ENV="production", PASSWORD_PEPPER="")
    checkout.ready(launcher)
    assert "Paywright-demo-1" not in checkout.out
    until(lambda: "\nPASSWORD_PEPPER=\n" in checkout.out)
    assert "\nJWT_SECRET=" not in checkout.out


def test_a_rotated_secret_reaches_a_process_that_is_started_again(checkout):
    (checkout.root / ".data").mkdir()
    checkout.write(".data/secrets.env", "JWT_SECRET_OTHER='one # two'\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    assert "serving web.1 development one # two\n" in checkout.out
    with (checkout.root / ".data/secrets.env").open("a") as secrets:
        secrets.write("JWT_SECRET_OTHER=the-new-one\n")
    os.kill(checkout.pids["web.1"], signal.SIGTERM)
    until(lambda: "serving web.1 development the-new-one\n" in checkout.out)


def test_a_failed_migration_stops_the_start_with_one_line(checkout):
    checkout.write("db/migrate.py", "def up(url):\n    raise ValueError('0001.sql was edited\\nand more')\n")
    assert checkout.refusal() == (1, "db.migrate: ValueError: 0001.sql was edited\n")


@pytest.fixture
def refused(checkout, monkeypatch, capsys):
    """How the launcher refuses a setting before it starts anything, in this process: its exit status and its line."""

    def refuse(**environ: str) -> tuple[int, str]:
        monkeypatch.chdir(checkout.root)
        monkeypatch.setattr(os, "environ", checkout.environ | environ)
        monkeypatch.setattr("workers.dev.__main__.Supervisor", lambda _pids: pytest.fail("it starts"))
        code = main()
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return code, err

    return refuse


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("PORT", "http", "HOST, PORT: cannot listen on 127.0.0.1:http: "),
        ("HOST", "no such host", "HOST, PORT: cannot listen on no such host:"),
        ("DATA_DIR", "Procfile", "DATA_DIR: "),
        ("PROCESSES", "wep=2", "PROCESSES: 'wep=2' is not name=number with a name of the Procfile"),
        ("PROCESSES", "web=many", "PROCESSES: 'web=many' is not name=number"),
        ("DATABASE_URL", "mysql://127.0.0.1/x", "DATABASE_URL: "),
        ("REDIS_URL", "redis://127.0.0.1:port/0", "REDIS_URL: "),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: "),
    ],
)
def test_a_wrong_setting_is_refused_with_one_line(refused, setting, value, named):
    code, err = refused(**{setting: value})
    assert code == 2
    assert err.startswith(f"invalid setting: {named}")


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("PORT", "70000", "HOST, PORT: cannot listen on 127.0.0.1:70000: "),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/x", "DATABASE_URL: "),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "REDIS_URL: "),
        ("PG_BIN", "/nowhere", "PG_BIN: there is no initdb in /nowhere"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(checkout, setting, value, named):
    (checkout.root / "db/migrate.py").unlink()  # the real one connects
    stores = {"DATABASE_URL": ""} if setting == "PG_BIN" else {}
    code, err = checkout.refusal(**stores, **{setting: value})
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"invalid setting: {named}")


def test_a_port_in_use_is_said_in_one_line(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = refused(PORT=str(port))
    assert code == 2
    assert err.startswith(f"invalid setting: HOST, PORT: cannot listen on 127.0.0.1:{port}: ")
    assert "Address already in use" in err


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("Procfile", "web: python web.py\nwhat is this\n", "Procfile: 'what is this' is not"),
        (".env", "PORT=1\nthis is no setting\n", ".env: line 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(checkout, refused, file, text, named):
    checkout.write(file, text)
    code, err = refused()
    assert code == 2
    assert err.startswith(f"invalid setting: {named}")


def test_without_a_port_it_finds_one(checkout):
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


def test_kill_9_of_the_launcher_leaves_nothing_blocks_no_start_and_keeps_the_data(make_checkout, gone):
    checkout = make_checkout(embedded=True)
    checkout.write("parent.py", PARENT)
    checkout.write("Procfile", "web: python parent.py\njob: sleep 600\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    remember(checkout, "before")
    before = checkout.pids
    launcher.kill()
    gone(before.values())  # the kernel ends them
    launcher = checkout.start()  # and the start the grandchild that holds the port
    checkout.ready(launcher)
    assert remembered(checkout) == ["before"]
    remember(checkout, "again")
    launcher.kill()  # and at once, while its children still are on their way out
    launcher = checkout.start()
    checkout.ready(launcher)
    assert remembered(checkout) == ["before", "again"]
    for pid in [launcher.pid, *checkout.pids.values()]:
        os.kill(pid, signal.SIGKILL)
    launcher = checkout.start()
    checkout.ready(launcher)
    assert remembered(checkout) == ["before", "again"]


def test_two_checkouts_run_at_once_and_a_killed_server_comes_back(make_checkout, gone):
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
        until(partial(is_another, one, server, before))
    until(lambda: remembered(one, strict=False) == ["one"])
    pids = [*one.pids.values(), *other.pids.values()]
    for launcher in launchers:
        launcher.send_signal(signal.SIGTERM)
    assert [launcher.wait(60) for launcher in launchers] == [0, 0]
    gone(pids)
    made = {path.name for path in one.root.iterdir()} - {"__pycache__"}
    assert made == {"api", "db", "web.py", "Procfile", "out", "err", ".data"}


def ends(checkout) -> set[tuple[str, str, float]]:
    """The ends of processes in the launcher's log: name, status, and after how many seconds it starts again."""
    lines = [json.loads(line) for line in checkout.out.splitlines() if line.startswith("{")]
    return {(line["process"], line["status"], line["after_s"]) for line in lines}


def is_another(checkout, name: str, before: int) -> bool:
    return checkout.pids.get(name, before) != before


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
