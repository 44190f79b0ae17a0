#!/usr/bin/python3
"""A name server that answers every question with one address, on 127.0.0.1 port 53 of the network it runs in.

name_server.py ADDRESS
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys


def answer(question: bytes, address: str) -> bytes:
    """A reply (RFC 1035, 4.1): the address for a question of type A, none for any other."""
    end = question.index(0, 12) + 5
    is_a = struct.unpack_from("!H", question, end - 4)[0] == 1
    header = question[:2] + struct.pack("!5H", 0x8180, 1, int(is_a), 0, 0)
    record = struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + ipaddress.IPv4Address(address).packed
    return header + question[12:end] + (record if is_a else b"")


def main() -> None:
    """The program; prints "ready" once it listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        print("ready", flush=True)
        while True:
            question, client = server.recvfrom(512)
            server.sendto(answer(question, sys.argv[1]), client)


if __name__ == "__main__":
    main()
