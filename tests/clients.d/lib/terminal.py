"""What the drivers of terminal clients share: a tmux of their own, and what its screen shows."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from driver import LOGIN, LOGOUT, STEP, Orders, Settings, cannot, debian, own, say

# Lines of the screen that explain a failure.
TOLD = 16
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
            status = 1
            try:
                status = drive(settings, screen)
            except Exception:
                traceback.print_exc(limit=-2)
            finally:
                # Also when its time is over.
                if status:
                    screen.tell()
            sys.exit(status)
    else:
        cannot(f"usage: {sys.argv[0]} install | run")


def version_of(*words):
    """The first line that a program says of itself."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    return (done.stdout or done.stderr).splitlines()[0]


class Terminal:
    """Ends with what runs in it, however that ends."""

    def __init__(self, settings):
        self.settings = settings
        self.server = None
        self.orders = Orders()
        own(settings.home)
        os.environ.update(
            XDG_CONFIG_HOME=str(settings.home / "config"),
            XDG_DATA_HOME=str(settings.home / "data"),
            XDG_CACHE_HOME=str(settings.home / "cache"),
        )
        # The name of a socket has 108 bytes at most.
        long = len(str(settings.home)) > 80
        self.elsewhere = tempfile.TemporaryDirectory(prefix="xb-", dir="/tmp") if long else None
        self.sockets = Path(self.elsewhere.name) if long else settings.home

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(LOGOUT)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        if self.elsewhere:
            self.elsewhere.cleanup()

    def tmux(self, *words):
        command = ["tmux", "-N", "-S", self.sockets / "tmux", *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOGIN)
        if done.returncode:
            raise RuntimeError(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words):
        """Runs a program in the terminal; the terminal stays when the program ends.

        No shell has a part in it: what tmux takes for one may be a program that only says no. And the server is no
        daemon: it ends with this process.
        """
        server = ["setpriv", "--pdeathsig", "TERM", "tmux", "-D", "-S", self.sockets / "tmux", "-f", "/dev/null"]
        # A signal for all processes of this driver is not for it: its screen is still to be told.
        apart = {"start_new_session": True, "stdin": subprocess.DEVNULL, "stdout": sys.stderr}
        self.server = subprocess.Popen(server, **apart)
        end = time.monotonic() + LOGIN
        while True:
            try:
                self.tmux("list-sessions")
                break
            except RuntimeError as error:
                if self.server.poll() is not None:
                    raise RuntimeError(f"tmux ended with {self.server.returncode}") from error
                if time.monotonic() > end:
                    raise
                time.sleep(STEP)
        # In one go, and so before the program can end. More than one word: else a shell reads it.
        options = ["set-option", "-g", "remain-on-exit", "on", ";", "set-option", "-g", "default-shell", "/bin/sh", ";"]
        size = ["-d", "-x", "110", "-y", "32"]
        self.tmux(*options, "new-session", *size, "-s", "client", "--", "env", *words)

    def tell(self):
        """Puts the screen, without its empty lines, where a failure is explained."""
        if not self.server:
            return
        try:
            lines = [line.rstrip() for line in self.text().splitlines() if line.strip()]
        except (RuntimeError, subprocess.SubprocessError) as error:
            lines = [f"not to be seen: {error}"]
        print("\n".join(["the screen:", *lines[-TOLD:]]), file=sys.stderr, flush=True)

    def until_file(self, path, seconds=LOGIN):
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
        self.write(text)
        self.key("Enter")

    def write(self, text):
        self.tmux("send-keys", "-t", "client", "-l", text)

    def key(self, *keys):
        self.tmux("send-keys", "-t", "client", *keys)

    def shot(self, name):
        """The screen's text."""
        file = self.settings.out / f"{name}-{self.settings.server}.txt"
        file.write_text(self.text())

    def command(self):
        """See `Orders.next`."""
        return self.orders.next()

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
