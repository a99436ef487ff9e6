"""A WebSocket client for reading a server's text messages (RFC 6455), on a plain socket.

What is not needed is left out: no TLS, no extensions, no outgoing messages but the answers the
protocol demands (pong, close). Binary messages are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct
import time
from dataclasses import dataclass

from .patience import PATIENCE_SECONDS

HANDSHAKE_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_HANDSHAKE_BYTES = 64 * 1024


class WebSocketError(Exception):
    """The other side ended the connection or broke the protocol."""


@dataclass(frozen=True)
class Frame:
    """One frame: `is_final` is False where the message continues in the next frame."""

    opcode: int
    payload: bytes
    is_final: bool = True


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated 4-byte mask (RFC 6455, section 5.3); its own inverse."""
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    value = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return value.to_bytes(len(payload), "big")


def encode_frame(frame: Frame, mask: bytes | None = None) -> bytes:
    """Bytes of a frame; a client must mask (4 bytes), a server must not (RFC 6455, 5.1)."""
    length = len(frame.payload)
    mask_bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if frame.is_final else 0) | frame.opcode])
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
    return head + (frame.payload if mask is None else mask + apply_mask(frame.payload, mask))


def decode_frame(buffer: bytes) -> tuple[Frame, int] | None:
    """The first frame in `buffer` and its size in bytes, or None while the frame is incomplete."""
    if len(buffer) < 2:
        return None
    if buffer[0] & 0x70:
        raise WebSocketError("reserved bits: expected none set, got an extension nobody asked for")
    length, offset = buffer[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(buffer) < offset + size:
            return None
        length = int.from_bytes(buffer[offset : offset + size], "big")
        offset += size
    mask = None
    if buffer[1] & 0x80:
        mask = bytes(buffer[offset : offset + 4])
        offset += 4
    if len(buffer) < offset + length:
        return None
    payload = bytes(buffer[offset : offset + length])
    if mask is not None:
        payload = apply_mask(payload, mask)
    return Frame(buffer[0] & 0x0F, payload, bool(buffer[0] & 0x80)), offset + length


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept value that answers a client's key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + HANDSHAKE_GUID).encode("ascii")).digest()).decode(
        "ascii"
    )


class WebSocket:
    """A connection that yields the server's text messages."""

    def __init__(self, host: str, port: int, path: str, timeout: float = PATIENCE_SECONDS) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout)
        self._buffer = b""
        self._message = b""
        self._message_opcode = TEXT
        try:
            self._handshake(host, port, path)
        except BaseException:
            self._socket.close()
            raise

    def receive_text(self, timeout: float) -> str | None:
        """The next text message, or None if none is complete within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            decoded = decode_frame(self._buffer)
            if decoded is not None:
                frame, size = decoded
                self._buffer = self._buffer[size:]
                text = self._handle(frame)
                if text is not None:
                    return text
            elif not self._read_more(deadline):
                return None

    def close(self) -> None:
        """Say goodbye and close the socket."""
        with contextlib.suppress(OSError):
            self._send(Frame(CLOSE, struct.pack("!H", 1000)))
        self._socket.close()

    def _handshake(self, host: str, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(request.encode("ascii"))
        while b"\r\n\r\n" not in self._buffer:
            chunk = self._socket.recv(4096)
            if not chunk or len(self._buffer) > MAX_HANDSHAKE_BYTES:
                raise WebSocketError("handshake: expected an HTTP answer, got none")
            self._buffer += chunk
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in map(_split_header, lines)
        }
        if " 101 " not in f"{status} " or headers.get("sec-websocket-accept") != accept_key(key):
            raise WebSocketError(
                f"handshake: expected a switch to the WebSocket protocol, got {status!r}"
            )

    def _handle(self, frame: Frame) -> str | None:
        """Act on one frame; the text if it completes a text message."""
        if frame.opcode == CLOSE:
            raise WebSocketError("the server closed the connection")
        if frame.opcode == PING:
            self._send(Frame(PONG, frame.payload))
        if frame.opcode in (TEXT, BINARY):
            self._message_opcode, self._message = frame.opcode, frame.payload
        elif frame.opcode == CONTINUATION:
            self._message += frame.payload
        else:
            return None
        if not frame.is_final or self._message_opcode != TEXT:
            return None
        return self._message.decode("utf-8")

    def _read_more(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        self._socket.settimeout(remaining)
        try:
            chunk = self._socket.recv(65536)
        except TimeoutError:
            return False
        except OSError as error:
            raise WebSocketError(f"the connection broke: {error}") from error
        if not chunk:
            raise WebSocketError("the server ended the connection")
        self._buffer += chunk
        return True

    def _send(self, frame: Frame) -> None:
        self._socket.sendall(encode_frame(frame, mask=os.urandom(4)))


def _split_header(line: str) -> tuple[str, str, str]:
    return line.partition(":")
