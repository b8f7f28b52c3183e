"""What the drivers of programs share that run once for each message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from driver import BAR, LOGIN, STEP, Orders, Settings, cannot, debian, own, ran, say

LIB = Path(__file__).resolve().parent


def oneshot(packages, version, send, listen=None):
    """Does what the first argument says: installs these packages, or runs `send(Settings(), text)` for each message,
    where the system trusts the local CA. It returns a program's words and what is written to it.

    `listen(Settings())` gives what receives: `is_online()`, `texts()` that are new, `is_over()`, `stop()` that tells
    whether it ended in time.
    """
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "install":
        debian("openssl", *packages)
    elif what == "run":
        settings = Settings()
        if "XB_ONESHOT" not in os.environ:
            os.environ["XB_ONESHOT"] = "inside"
            os.execv(LIB / "trusting", ["trusting", settings.ca or "", "/usr/bin/python3", *sys.argv])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        own(settings.home)
        os.environ["XDG_CONFIG_HOME"] = str(settings.home)
        say("version", version())
        sys.exit(serve(settings, send, listen and listen(settings)))
    else:
        cannot(f"usage: {sys.argv[0]} install | run")


def serve(settings, send, listener):
    """Obeys; the status to exit with."""
    if listener:
        end = time.monotonic() + LOGIN
        while not listener.is_online():
            if listener.is_over() or time.monotonic() > end:
                say("lost", "it ended" if listener.is_over() else "not online in time")
                return 1
            time.sleep(STEP)
        say("online")
    else:
        say("ready")
    told = over = False
    orders = Orders()
    while True:
        for text in listener.texts() if listener else []:
            say("got", text)
        if listener and listener.is_over() and not over:
            over = True
            say("lost", "it ended")
        name, text = orders.next()
        if name == "send":
            words, message = send(settings, text)
            if not told:
                told = True
                ran("echo", "hello", BAR, *words)
            done = subprocess.run(words, input=message, text=True, stdout=sys.stderr, timeout=LOGIN)
            if done.returncode:
                say("lost", f"it ended with {done.returncode}")
        elif name == "quit":
            break
    if listener and not listener.stop():
        say("lost", "it does not end")
        return 1
    say("offline")
    return 0
