"""Asks a server on the loopback interface again and again until it answers 200: first_answer.py PORT PATH [SECONDS]"""

import _socket
import sys
import time

PAUSE = 0.005
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 60.0


def answers(port: int, path: str) -> bool:
    """Whether one request is answered with 200."""
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(SECONDS)
        connection.connect(("127.0.0.1", port))
        connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return b" 200" in connection.recv(64)
    except OSError:
        return False
    finally:
        connection.close()


end = time.monotonic() + SECONDS
while not answers(int(sys.argv[1]), sys.argv[2]):
    if time.monotonic() > end:
        sys.exit(1)
    time.sleep(PAUSE)
