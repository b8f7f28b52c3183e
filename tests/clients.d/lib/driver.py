"""What the drivers written in Python share: settings, events, commands, and installing.

A driver is started by any Python 3; `library` runs it again with the Python of `XB_VENV`, where its library is.
"""

import asyncio
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Seconds that nobody waits on a machine of one's own, but tests side by side on a small one do.
LOGIN = 120
LOGOUT = 30
CLIENTS = Path(__file__).resolve().parents[2] / "real/clients"
PINNED = CLIENTS / "requirements.txt"
PINS_MET = """
import importlib.metadata, sys
for pin in open(sys.argv[1]).read().split():
    name, version = pin.split("==")
    assert importlib.metadata.version(name) == version
"""


class Settings:
    """What the runner asks for. The file of the CA may be missing: then nothing is to be trusted."""

    def __init__(self):
        self.server = os.environ.get("XB_SERVER") or os.environ["XB_JID"].split("@")[1]
        self.jid = os.environ["XB_JID"]
        self.user, self.domain = self.jid.split("@")
        self.password = os.environ["XB_PASSWORD"]
        self.host = os.environ.get("XB_HOST", "127.0.0.1")
        self.port = int(os.environ["XB_PORT"])
        self.peer = os.environ["XB_PEER"]
        self.tls = os.environ.get("XB_TLS") or "default"
        ca = os.environ.get("XB_CA", "")
        self.ca = ca if ca and Path(ca).is_file() else None
        self.home = Path(os.environ["XB_HOME"])
        self.out = Path(os.environ["XB_OUT"])

    def log(self, program):
        """For what a program says; its own, as it may run several times at once."""
        return self.out / f"{program}-{self.server}-{self.tls}-program.log"


# Between two looks at what goes on.
STEP = 0.1
# What stands between two commands of a line.
BAR = object()
# Whatever there is of these on the machine, clients know their own only.
FOREIGN = ("XDG_", "LC_", "TMUX", "SSL_CERT_", "PYTHONHOME", "PYTHONPATH", "DBUS_", "DISPLAY", "WAYLAND_", "LANGUAGE")


def own(home):
    """Makes the environment that of a user at home here, whatever it was, and even if it was empty."""
    # A shell ignores these for what it runs in the background, and so would every program from here on.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.lower() in proxies:
            del os.environ[name]
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.environ.update(
        HOME=str(home),
        USER="nobody",
        LOGNAME="nobody",
        SHELL="/bin/sh",
        XDG_RUNTIME_DIR=str(runtime),
        TERM="xterm-256color",
        LANG="C.UTF-8",
        LC_ALL="C.UTF-8",
    )


def say(event, text=""):
    """One event of the contract, on one line."""
    print(" ".join(f"{event} {text}".split("\n")).strip(), flush=True)


def wrote(path):
    """A file that a user would write as this driver did."""
    say("file", path)


def ran(*words):
    """A command that a user would type as this driver did."""
    say("ran", " ".join("|" if word is BAR else shlex.quote(str(word)) for word in words))


class Orders:
    """The commands of the runner."""

    def __init__(self):
        self.lines = []
        self.rest = b""

    def next(self):
        """The next one as a pair of name and text within a step, or none."""
        if not self.lines and select.select([0], [], [], STEP)[0]:
            read = os.read(0, 65536)
            *lines, self.rest = (self.rest + read).split(b"\n")
            self.lines += [line.decode() for line in lines] + ([] if read else ["quit"])
        if self.lines:
            name, _, text = self.lines.pop(0).partition(" ")
            return name, text
        return None, ""


def cannot(why):
    """Ends with the one line that says why it does not work here."""
    print(why, file=sys.stderr)
    sys.exit(1)


def command(*words):
    """Runs a program of the installation; its output goes to standard error."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if done.returncode:
        cannot(f"{' '.join(map(str, words[:6]))} ...: exit status {done.returncode}")


def debian(*packages):
    """Installs what is missing of these packages. None of them starts a service."""
    form = "${Package} ${db:Status-Status}\n"
    query = ["dpkg-query", "-W", "-f", form, *packages]
    listed = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    missing = [package for package in packages if f"{package} installed" not in listed]
    if not missing:
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and subprocess.run([*root, "true"], capture_output=True).returncode:
        cannot(f"not installed: {' '.join(missing)} (installing takes root or sudo without a password)")
    # An archive folder of its own: another apt may be at work at the same time.
    with tempfile.TemporaryDirectory() as archives:
        os.chmod(archives, 0o755)
        (Path(archives) / "partial").mkdir()
        settings = ["DPkg::Lock::Timeout=300", "APT::Sandbox::User=root", f"Dir::Cache::archives={archives}"]
        options = [word for setting in settings for word in ("-o", setting)]
        apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-q", *options]
        words = [*apt, "install", "-y", "--no-install-recommends", *missing]
        if subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
            # An image comes without lists, or with old ones; a foreign source that fails is no reason to stop.
            subprocess.run([*apt, "update"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
            command(*words)


def venv_python():
    return Path(os.environ["XB_VENV"]) / "bin/python"


def pypi():
    """Installs the list of pinned packages into `XB_VENV`, unless just these are there."""
    python = venv_python()
    if not python.exists():
        command(sys.executable, "-m", "venv", os.environ["XB_VENV"])
    there = subprocess.run([python, "-c", PINS_MET, PINNED], capture_output=True)
    if there.returncode:
        # The list is complete; what the packages say that they need is partly out of date.
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        command(*pip, "-r", PINNED)


def check(code):
    """Ends with the last line of its complaint if this code does not run in `XB_VENV`."""
    tried = subprocess.run([venv_python(), "-W", "ignore", "-c", code], capture_output=True, text=True)
    if tried.returncode:
        cannot(tried.stderr.strip().splitlines()[-1])


def library(install, client):
    """Does what the first argument says: `install()`, or drives a `client(Settings())`.

    A client has `version`, `start()`, which ends when it is online, `send(text)` and `stop()`.
    """
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "install":
        install()
    elif what == "run":
        python = venv_python()
        if Path(sys.prefix).resolve() != Path(os.environ["XB_VENV"]).resolve():
            os.execv(python, [python, *sys.argv])
        sys.exit(asyncio.run(drive(client)))
    else:
        cannot(f"usage: {sys.argv[0]} install | run")


async def drive(factory):
    """Logs in, obeys, logs out; the status to exit with."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 143)
    client = factory(Settings())
    say("version", client.version)
    say("code", sys.argv[0])
    try:
        await asyncio.wait_for(client.start(), LOGIN)
    except Exception as error:
        why = "not online in time" if isinstance(error, asyncio.TimeoutError) else error
        say("lost", why)
        print(f"login failed: {why!r}", file=sys.stderr)
        return 1
    say("online")
    async for name, text in commands():
        if name == "send":
            client.send(text)
        elif name == "quit":
            break
    await asyncio.wait_for(client.stop(), LOGOUT)
    say("offline")
    return 0


async def commands():
    """The lines of standard input as pairs of command and text, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, _, text = line.decode().rstrip("\n").partition(" ")
        yield name, text
