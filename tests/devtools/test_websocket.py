"""The WebSocket client: frames by the standard's examples, then against a server on a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from devtools.patience import PATIENCE_SECONDS
from devtools.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    WebSocketError,
    accept_key,
    apply_mask,
    decode_frame,
    encode_frame,
)

# RFC 6455, section 5.7
UNMASKED_HELLO = bytes.fromhex("810548656c6c6f")
MASKED_HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
MASK = bytes.fromhex("37fa213d")


def test_frames_of_the_standard() -> None:
    assert encode_frame(Frame(TEXT, b"Hello")) == UNMASKED_HELLO
    assert encode_frame(Frame(TEXT, b"Hello"), MASK) == MASKED_HELLO
    assert decode_frame(MASKED_HELLO + b"rest") == (Frame(TEXT, b"Hello"), len(MASKED_HELLO))


def test_handshake_key_of_the_standard() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [None, MASK])
def test_every_length_survives(length: int, mask: bytes | None) -> None:
    frame = Frame(BINARY, bytes(i % 251 for i in range(length)), is_final=False)
    encoded = encode_frame(frame, mask)
    assert decode_frame(encoded) == (frame, len(encoded))
    assert decode_frame(encoded[:-1]) is None


def test_mask_is_its_own_inverse() -> None:
    assert apply_mask(apply_mask(b"\0seven!", MASK), MASK) == b"\0seven!"


def test_reserved_bits_are_refused() -> None:
    with pytest.raises(WebSocketError, match="reserved bits"):
        decode_frame(b"\xc1\x00")


@contextmanager
def server(talk: Callable[[socket.socket], None], accept: str | None = None) -> Iterator[int]:
    """A server that shakes hands once, then does what `talk` says; yields its port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(4096).decode("ascii")
            key = request.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
            answer = f"HTTP/1.1 101 Switching\r\nsec-websocket-accept: {accept or accept_key(key)}"
            connection.sendall(f"{answer}\r\n\r\n".encode("ascii"))
            talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(PATIENCE_SECONDS)


def test_text_is_found_between_everything_else() -> None:
    answers = []

    def talk(connection: socket.socket) -> None:
        stream = encode_frame(Frame(BINARY, b"a preview"))
        stream += encode_frame(Frame(TEXT, "grün ".encode()[:3], is_final=False))
        stream += encode_frame(Frame(PING, b"there?"))
        stream += encode_frame(Frame(CONTINUATION, "grün ".encode()[3:]))
        stream += encode_frame(Frame(TEXT, b"x" * 70000))
        for start in range(0, len(stream), 1000):
            connection.sendall(stream[start : start + 1000])
        answers.append(decode_frame(connection.recv(4096)))

    with server(talk) as port:
        client = WebSocket("127.0.0.1", port, "/ws")
        assert client.receive_text(5) == "grün "
        assert client.receive_text(5) == "x" * 70000
        client.close()
    assert answers[0] is not None
    assert answers[0][0] == Frame(PONG, b"there?")


def test_silence_is_none_and_loses_nothing() -> None:
    spoken = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(UNMASKED_HELLO[:4])
        spoken.wait(10)
        connection.sendall(UNMASKED_HELLO[4:])

    with server(talk) as port:
        client = WebSocket("127.0.0.1", port, "/ws")
        assert client.receive_text(0.1) is None
        spoken.set()
        assert client.receive_text(5) == "Hello"
        client.close()


@pytest.mark.parametrize("farewell", [encode_frame(Frame(CLOSE, b"")), b""])
def test_the_end_of_the_connection_is_an_error(farewell: bytes) -> None:
    with server(lambda connection: connection.sendall(farewell)) as port:
        client = WebSocket("127.0.0.1", port, "/ws")
        with pytest.raises(WebSocketError, match="the server"):
            client.receive_text(5)
        client.close()


def test_a_wrong_handshake_is_refused() -> None:
    with (
        server(lambda connection: None, accept="wrong") as port,
        pytest.raises(WebSocketError, match="handshake: expected a switch"),
    ):
        WebSocket("127.0.0.1", port, "/ws")
