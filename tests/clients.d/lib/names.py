"""A name server that knows one SRV record, for clients that have no setting for a host and a port."""

import ctypes
import os
import signal
import socket
import struct

SRV, NO_SUCH_NAME, DIE_WITH_PARENT = 33, 3, 1


def packed(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def answer(question, service, target, port):
    """The answer to a packet: the record if it asks for that, else that there is no such name."""
    number = question[:2]
    asked = question[12 : question.index(b"\0", 12) + 5]
    (kind,) = struct.unpack("!H", asked[-4:-2])
    if kind != SRV or asked[:-4].lower() != packed(service):
        return number + struct.pack("!HHHHH", 0x8180 | NO_SUCH_NAME, 1, 0, 0, 0) + asked
    record = struct.pack("!HHH", 0, 0, port) + packed(target)
    named = struct.pack("!HHHIH", 0xC00C, SRV, 1, 60, len(record))
    return number + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + asked + named + record


def serve(address, service, target, port):
    """Answers on port 53 of this address as long as this process lives, in whatever program it goes on."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    parent = os.getpid()
    if os.fork():
        server.close()
        return
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    # The runner waits for the end of what its driver says.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    while os.getppid() == parent:
        question, client = server.recvfrom(4096)
        try:
            server.sendto(answer(question, service, target, port), client)
        except (ValueError, IndexError, struct.error, OSError):
            continue
    os._exit(0)
