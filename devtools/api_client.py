"""ComfyUI's HTTP and WebSocket API: upload pictures, run a graph, fetch its images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import DevError, cut
from .patience import PATIENCE_SECONDS
from .websocket import WebSocket, WebSocketError

# How long a silent server is left alone before its history is asked.
POLL_SECONDS = 2.0
SENTENCES_EVENT = "subject_diffusion.sentences"  # as in nodes/host/node_warnings.py
UPLOAD_FOLDER = "subject_diffusion"

Graph = dict[str, dict[str, Any]]
ProgressCallback = Callable[[str, int, int], None]
SentenceCallback = Callable[[str], None]


class PromptError(DevError):
    """ComfyUI refused a graph or a node of it failed; the text is the node's own sentence."""


@dataclass(frozen=True)
class ImageReference:
    """Where the server keeps an image it made."""

    filename: str
    subfolder: str
    type: str


def validation_sentence(answer: dict[str, Any]) -> str:
    """One sentence out of ComfyUI's answer to a graph it refused."""
    sentences = []
    for node in answer.get("node_errors", {}).values():
        for error in node.get("errors", []):
            parts = [error.get("message", ""), error.get("details", "")]
            text = ": ".join(_sentence(part) for part in parts if part)
            sentences.append(f"{text} (node {node.get('class_type', 'unknown')})")
    if not sentences:
        error = answer.get("error", {})
        if isinstance(error, str):
            return error
        parts = [error.get("message", "the graph was refused"), error.get("details", "")]
        sentences = [": ".join(_sentence(part) for part in dict.fromkeys(parts) if part)]
    return "; ".join(sentences)


def execution_sentence(data: dict[str, Any]) -> str:
    """One sentence out of ComfyUI's `execution_error` message."""
    message = _sentence(data.get("exception_message", "")) or data.get(
        "exception_type", "unknown error"
    )
    return f"{message} (node {data.get('node_type', 'unknown')})"


def _sentence(text: str) -> str:
    return cut(" ".join(str(text).split()))


class ComfyClient:
    """A client of one running server; use it in a `with` block."""

    def __init__(self, host: str, port: int, is_running: Callable[[], bool] = lambda: True) -> None:
        self._url = f"http://{host}:{port}"
        self._client_id = uuid.uuid4().hex
        self._is_running = is_running
        self._socket: WebSocket | None = WebSocket(host, port, f"/ws?clientId={self._client_id}")
        self._uploaded: dict[str, str] = {}

    def __enter__(self) -> ComfyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def node_exists(self, node_id: str) -> bool:
        """Whether the server has a node with this id."""
        return node_id in self._get_json(f"/object_info/{urllib.parse.quote(node_id)}")

    def node_infos(self) -> dict[str, Any]:
        """What the server tells of every node: inputs, outputs, tooltips."""
        infos: dict[str, Any] = self._get_json("/object_info")
        return infos

    def upload_image(self, path: Path) -> str:
        """Put a picture into the server's input folder; the name a LoadImage node takes it by."""
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()[:20] + path.suffix.lower()
        if name not in self._uploaded:
            fields = {"subfolder": UPLOAD_FOLDER, "type": "input", "overwrite": "true"}
            body, content_type = multipart_body(fields, "image", name, content)
            stored = json.loads(self._request("/upload/image", body, content_type))
            self._uploaded[name] = f"{stored['subfolder']}/{stored['name']}"
        return self._uploaded[name]

    def run(
        self,
        graph: Graph,
        on_progress: ProgressCallback | None = None,
        on_sentence: SentenceCallback | None = None,
    ) -> list[ImageReference]:
        """Queue a graph, wait for its end and list the images it saved.

        `on_progress` gets the node's id, the steps done and the steps in all; `on_sentence` what
        the pack's nodes have to say, such as warnings.
        """
        prompt_id = self.queue(graph)
        try:
            for node, value, total in self._progress_of(prompt_id, on_sentence):
                if on_progress is not None:
                    on_progress(node, value, total)
        except BaseException:
            self.cancel(prompt_id)
            raise
        return self._result_of(prompt_id)

    def is_busy(self) -> bool:
        """Whether the server runs a prompt at this moment."""
        return bool(self._get_json("/queue")["queue_running"])

    def fetch_image(self, image: ImageReference) -> bytes:
        """The bytes of an image file on the server."""
        query = {"filename": image.filename, "subfolder": image.subfolder, "type": image.type}
        return self._request(f"/view?{urllib.parse.urlencode(query)}")

    def queue(self, graph: Graph) -> str:
        """Queue a graph without waiting for it; its number on the server."""
        body = json.dumps({"prompt": graph, "client_id": self._client_id}).encode("utf-8")
        answer = json.loads(self._request("/prompt", body, "application/json"))
        prompt_id = str(answer["prompt_id"])
        if answer.get("node_errors"):
            # ComfyUI drops the outputs it cannot make and would run the others.
            self.cancel(prompt_id)
            raise PromptError(validation_sentence(answer))
        return prompt_id

    def cancel(self, prompt_id: str) -> None:
        """Stop a prompt that nobody waits for any more, as far as the server still listens."""
        with contextlib.suppress(DevError):
            body = json.dumps({"prompt_id": prompt_id, "delete": [prompt_id]}).encode("utf-8")
            self._request("/queue", body, "application/json")
            self._request("/interrupt", body, "application/json")

    def _progress_of(
        self, prompt_id: str, on_sentence: SentenceCallback | None
    ) -> Iterator[tuple[str, int, int]]:
        """Progress messages until the prompt has ended; nobody else uses this client meanwhile."""
        while True:
            message = self._next_message()
            if message is None:
                if self._history_of(prompt_id) is not None:
                    return
                continue
            kind, data = message.get("type"), message.get("data") or {}
            if kind == SENTENCES_EVENT and on_sentence is not None:
                for sentence in data["sentences"]:
                    on_sentence(sentence)
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "progress":
                yield str(data.get("node")), int(data["value"]), int(data["max"])
            elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                return

    def _next_message(self) -> dict[str, Any] | None:
        """The next message, or None after a while of silence; without a socket always None."""
        if not self._is_running():
            raise DevError("ComfyUI ended while it was working.")
        if self._socket is None:
            time.sleep(POLL_SECONDS)
            return None
        try:
            text = self._socket.receive_text(POLL_SECONDS)
        except WebSocketError:
            # Progress is lost, results are not: the history is asked from here on.
            self._socket.close()
            self._socket = None
            return None
        return None if text is None else json.loads(text)

    def _history_of(self, prompt_id: str) -> dict[str, Any] | None:
        history: dict[str, Any] = self._get_json(f"/history/{prompt_id}")
        return history.get(prompt_id)

    def _result_of(self, prompt_id: str) -> list[ImageReference]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (entry := self._history_of(prompt_id)) is None:
            if time.monotonic() > deadline:
                raise DevError("ComfyUI finished a prompt but has no record of it.")
            time.sleep(0.02)
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                raise PromptError(execution_sentence(data))
            if kind == "execution_interrupted":
                raise PromptError("The generation was cancelled.")
        outputs = entry["outputs"].values()
        return [
            ImageReference(image["filename"], image["subfolder"], image["type"])
            for output in outputs
            for image in output.get("images", [])
        ]

    def _get_json(self, path: str) -> Any:
        return json.loads(self._request(path))

    def _request(
        self, path: str, body: bytes | None = None, content_type: str | None = None
    ) -> bytes:
        headers = {} if content_type is None else {"Content-Type": content_type}
        request = urllib.request.Request(self._url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            raise _refusal(path, error) from error
        except OSError as error:
            raise DevError(f"ComfyUI does not answer ({path}): {error}.") from error


def _refusal(path: str, error: urllib.error.HTTPError) -> DevError:
    text = error.read().decode("utf-8", errors="replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return PromptError(validation_sentence(answer))
    return DevError(f"ComfyUI refused {path} with status {error.code}: {_sentence(text)[:200]}")


def multipart_body(
    fields: dict[str, str], file_field: str, name: str, content: bytes
) -> tuple[bytes, str]:
    """A multipart/form-data body with text fields and one file, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    parts.append(
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{file_field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = "".join(parts).encode("utf-8") + content + f"\r\n--{boundary}--\r\n".encode("ascii")
    return body, f"multipart/form-data; boundary={boundary}"
