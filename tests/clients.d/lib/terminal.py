"""What the drivers of terminal clients share: a tmux of their own, and what its screen shows."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from driver import LOGIN, Settings, cannot, debian, say

STEP = 0.1
LIB = Path(__file__).resolve().parent
# Some clients do not run as root. In this name space it is not root, and yet the owner of its files; the number is that of
# nobody, whom every system knows.
USER = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]


def terminal(packages, drive):
    """Does what the first argument says: installs these packages, or runs `drive(Settings(), Terminal)`, where the
    system trusts the local CA."""
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "install":
        debian("tmux", "openssl", *packages)
        tried = subprocess.run([LIB / "trusting", "/dev/null", *USER, "true"], capture_output=True, text=True)
        if tried.returncode:
            cannot(f"no ordinary user to run it as: {tried.stderr.strip()}")
    elif what == "run":
        settings = Settings()
        if "XB_TERMINAL" not in os.environ:
            os.environ["XB_TERMINAL"] = "inside"
            inside = [*USER, "/usr/bin/python3", *sys.argv]
            os.execv(LIB / "trusting", ["trusting", settings.ca or "", *inside])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with Terminal(settings) as screen:
            sys.exit(drive(settings, screen))
    else:
        cannot(f"usage: {sys.argv[0]} install | run")


def version_of(*words):
    """The first line that a program says of itself."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    return (done.stdout or done.stderr).splitlines()[0]


class Terminal:
    """Ends with what runs in it."""

    def __init__(self, settings):
        self.settings = settings
        self.socket = settings.home / "tmux"
        self.lines = []
        self.rest = b""
        for name in [name for name in os.environ if name.startswith("XDG_") or name == "TMUX"]:
            del os.environ[name]
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            os.environ.pop(name, None), os.environ.pop(name.upper(), None)
        runtime = settings.home / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        os.environ.update(
            HOME=str(settings.home),
            XDG_CONFIG_HOME=str(settings.home / "config"),
            XDG_DATA_HOME=str(settings.home / "data"),
            XDG_CACHE_HOME=str(settings.home / "cache"),
            XDG_RUNTIME_DIR=str(runtime),
            TERM="xterm-256color",
            LC_ALL="C.UTF-8",
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tmux("kill-server", check=False)

    def tmux(self, *words, check=True):
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if check and done.returncode:
            raise RuntimeError(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words):
        """Runs a program in the terminal; the terminal stays when the program ends."""
        self.tmux("new-session", "-d", "-x", "110", "-y", "32", "-s", "client", "sleep infinity")
        self.tmux("set-option", "-g", "remain-on-exit", "on")
        self.tmux("respawn-pane", "-k", "-t", "client", "--", *words)

    def until_file(self, path, seconds=10):
        """Waits for a file that something outside the terminal makes."""
        end = time.monotonic() + seconds
        while not path.exists() and time.monotonic() < end:
            time.sleep(STEP)

    def is_over(self):
        return self.tmux("display-message", "-p", "-t", "client", "#{pane_dead}").strip() == "1"

    def text(self):
        return self.tmux("capture-pane", "-p", "-t", "client")

    def type(self, text):
        """One line, and the return key."""
        self.tmux("send-keys", "-t", "client", "-l", text)
        self.key("Enter")

    def key(self, *keys):
        self.tmux("send-keys", "-t", "client", *keys)

    def shot(self, name):
        """A picture of the screen, if there is a program that draws it; else its text."""
        server = os.environ.get("XB_SERVER") or self.settings.domain
        file = self.settings.out / f"{name}-{server}"
        file.with_suffix(".txt").write_text(self.text())

    def command(self):
        """The next command as a pair of name and text within a step, or none."""
        if not self.lines and select.select([0], [], [], STEP)[0]:
            read = os.read(0, 65536)
            *lines, self.rest = (self.rest + read).split(b"\n")
            self.lines += [line.decode() for line in lines] + ([] if read else ["quit"])
        if self.lines:
            name, _, text = self.lines.pop(0).partition(" ")
            return name, text
        return None, ""

    def until(self, ready, seconds=LOGIN):
        """Whether it came true in time, asked again and again; false at once when the program is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ready():
                return True
            if self.is_over():
                return bool(ready())
            time.sleep(STEP)
        return False


def lost(why):
    say("lost", why)
    return 1
