"""Units of systemd for the lines of the Procfile: each is a template, of which any number may run."""

from pathlib import PurePosixPath

from db.core import procfile

TARGET = "paywright.target"

_TARGET_TEXT = """\
[Unit]
Description=Paywright

[Install]
WantedBy=multi-user.target
"""

# The second file of the environment is for the secrets that only this type of process needs.
_SERVICE_TEXT = """\
[Unit]
Description=Paywright {name} %i
After=network-online.target
Wants=network-online.target
PartOf={target}
# Started again for ever: a store that is away does not end a process, and what ends one may be over later.
StartLimitIntervalSec=0

[Service]
User={user}
WorkingDirectory={directory}
EnvironmentFile={environment}/paywright.env
EnvironmentFile=-{environment}/{name}.env
Environment=PROCESS_NAME={name}.%i PYTHONUNBUFFERED=1
ExecStart={directory}/.venv/bin/{command}
Restart=always
RestartSec=1
# Longer than a process takes to finish its work in progress; its children get the signal from it.
TimeoutStopSec=30
KillMode=mixed
# A caller waits for a web process. No `nice` reaches from one service to another.
CPUWeight={weight}
LimitNOFILE=20000
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full
ProtectHome=read-only

[Install]
WantedBy={target}
"""
_WEIGHTS = {"web": 1000}


def units(*, user: str, directory: PurePosixPath, environment: PurePosixPath) -> dict[str, str]:
    """Returns the units by their file names: a template for each line of the Procfile, and their target.

    They run the checkout in `directory` in the name of `user`, with the settings in `environment`.
    """
    found = {TARGET: _TARGET_TEXT}
    for name, command in procfile.commands().items():
        found[f"paywright-{name}@.service"] = _SERVICE_TEXT.format(
            name=name,
            target=TARGET,
            user=user,
            directory=directory,
            environment=environment,
            command=command,
            weight=_WEIGHTS.get(name, 100),
        )
    return found
