"""What the drivers of programs share that run once for each message."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from driver import Settings, cannot, debian, own, say

LIB = Path(__file__).resolve().parent


def oneshot(packages, version, send):
    """Does what the first argument says: installs these packages, or runs `send(Settings(), text)` for each message,
    where the system trusts the local CA. It returns a program's words and what is written to it."""
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
        say("online")
        for line in sys.stdin:
            name, _, text = line.rstrip("\n").partition(" ")
            if name == "send":
                words, message = send(settings, text)
                done = subprocess.run(words, input=message, text=True, stdout=sys.stderr, timeout=60)
                if done.returncode:
                    say("lost", f"it ended with {done.returncode}")
            elif name == "quit":
                break
        say("offline")
        sys.exit(0)
    else:
        cannot(f"usage: {sys.argv[0]} install | run")
