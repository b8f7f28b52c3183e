"""What the drivers of graphical clients share: a display and a session bus of their own, as an ordinary user."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from driver import LOGIN, LOGOUT, STEP, Orders, Settings, cannot, debian, own, say

PACKAGES = ["xvfb", "openbox", "xdotool", "imagemagick", "x11-apps", "xclip", "dbus-daemon", "fonts-dejavu-core", "openssl"]
STILL = 20
LIB = Path(__file__).resolve().parent


def graphical(packages, drive, before=None):
    """Does what the first argument says: installs these packages, or runs `drive(Settings(), Desktop)`.

    `before(settings)` comes first, as the user who runs the tests. Debian's Python runs the driver, for its packages.
    """
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "install":
        debian(*PACKAGES, *packages)
        tried = subprocess.run([LIB / "trusting", "/dev/null", *USER, "true"], capture_output=True, text=True)
        if tried.returncode:
            cannot(f"no ordinary user to run it as: {tried.stderr.strip()}")
    elif what == "run":
        settings = Settings()
        if "XB_DESKTOP" not in os.environ:
            os.environ["XB_DESKTOP"] = "inside"
            if before:
                before(settings)
            inside = [*USER, "/usr/bin/python3", *sys.argv]
            os.execv(LIB / "trusting", ["trusting", settings.ca or "", *inside])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with Desktop(settings) as desktop:
            sys.exit(drive(settings, desktop))
    else:
        cannot(f"usage: {sys.argv[0]} install | run")


# Some clients do not run as root. In this name space it is not root, and yet the owner of its files; the number is that of
# nobody, whom every system knows.
USER = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]


class Desktop:
    """Ends with everything that was started in it."""

    def __init__(self, settings):
        self.settings = settings
        self.started = []
        self.orders = Orders()

    def __enter__(self):
        home = self.settings.home
        own(home)
        os.environ.update(
            GDK_BACKEND="x11",
            GSETTINGS_BACKEND="memory",
            NO_AT_BRIDGE="1",
            # Whatever proxy this machine is set to, the client goes to xbosh.
            GIO_USE_PROXY_RESOLVER="dummy",
        )
        screen = ["-screen", "0", "1100x700x24", "-nolisten", "tcp"]
        os.environ["DISPLAY"] = ":" + self.announced("Xvfb", "-displayfd", "{}", *screen)
        bus = ["--session", "--nofork", "--nopidfile"]
        address = self.announced("dbus-daemon", "--print-address={}", *bus)
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = address
        self.start("openbox")
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(LOGOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, *words, **settings):
        """Starts a program that ends with this one, however that ends."""
        words = ["setpriv", "--pdeathsig", "TERM", *map(str, words)]
        settings = {"stdout": sys.stderr, "stdin": subprocess.DEVNULL, **settings}
        process = subprocess.Popen(words, **settings)
        self.started.append(process)
        return process

    def announced(self, *words):
        """Starts a program that says on the descriptor `{}` where it is to be found; what it says."""
        reader, writer = os.pipe()
        self.start(*(word.replace("{}", str(writer)) for word in words), pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader) as said:
            return said.readline().strip()

    def run(self, *words):
        """What a program says that ends soon."""
        done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, text=True, timeout=LOGIN)
        return done.stdout.strip()

    def windows(self, name):
        """The visible windows whose title contains a match of this."""
        return self.run("xdotool", "search", "--onlyvisible", "--name", name).split()

    def key(self, *keys):
        self.run("xdotool", "key", "--clearmodifiers", *keys)

    def paste(self, text):
        """Into what has the focus, whatever letters it is written in."""
        copy = ["xclip", "-selection", "clipboard"]
        subprocess.run(copy, input=text, text=True, stdout=subprocess.DEVNULL, timeout=LOGIN)
        self.key("ctrl+v")

    def shot(self, name):
        """A picture of all that is to be seen, once nothing moves."""
        before = None
        for _ in range(STILL):
            picture = subprocess.run(["xwd", "-root", "-silent"], stdout=subprocess.PIPE, timeout=LOGIN).stdout
            if picture == before:
                break
            before = picture
            time.sleep(STEP)
        file = self.settings.out / f"{name}-{self.settings.server}.png"
        subprocess.run(["convert", "xwd:-", file], input=picture, timeout=LOGIN)

    def command(self):
        """See `Orders.next`."""
        return self.orders.next()

    def until(self, ready, seconds=LOGIN):
        """Whether it became true in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                return False
            time.sleep(STEP)
        return True


def lost(why):
    say("lost", why)
    return 1
