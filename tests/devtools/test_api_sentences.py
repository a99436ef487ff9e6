"""ComfyUI's refusals and failures as one sentence, and the body of an upload."""

from __future__ import annotations

from devtools.api_client import execution_sentence, multipart_body, validation_sentence


def test_a_node_that_refuses_its_inputs() -> None:
    answer = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "failed", "details": ""},
        "node_errors": {
            "subject_1": {
                "class_type": "SubjectDiffusionSubject",
                "errors": [{"message": "Value not in list", "details": "image: 'x'\n not in []"}],
            }
        },
    }
    sentence = "Value not in list: image: 'x' not in [] (node SubjectDiffusionSubject)"
    assert validation_sentence(answer) == sentence


def test_a_graph_that_is_refused_as_a_whole() -> None:
    error = {"message": "Prompt has no outputs", "details": "Prompt has no outputs"}
    assert validation_sentence({"error": error, "node_errors": {}}) == "Prompt has no outputs"
    assert validation_sentence({"error": "not allowed"}) == "not allowed"


def test_a_node_that_fails() -> None:
    data = {"exception_message": "Subject 2 has no box.\n", "node_type": "SubjectDiffusionLayout"}
    assert execution_sentence(data) == "Subject 2 has no box. (node SubjectDiffusionLayout)"
    silent = {"exception_message": "", "exception_type": "AssertionError", "node_type": "X"}
    assert execution_sentence(silent) == "AssertionError (node X)"


def test_megabytes_are_not_repeated() -> None:
    long = {"message": "Failed to convert", "details": "x" * 10**7}
    answer = {"node_errors": {"1": {"class_type": "KSampler", "errors": [long]}}}
    assert len(validation_sentence(answer)) < 600
    assert len(execution_sentence({"exception_message": "x" * 10**7})) < 600


def test_an_upload_keeps_every_byte() -> None:
    content = bytes(range(256))
    body, content_type = multipart_body({"type": "input"}, "image", "a.png", content)
    boundary = content_type.split("boundary=")[1].encode()
    parts = body.split(b"--" + boundary)
    assert parts[0] == b""
    assert parts[1].endswith(b'name="type"\r\n\r\ninput\r\n')
    assert parts[2].split(b"\r\n\r\n", 1)[1] == content + b"\r\n"
    assert parts[3] == b"--\r\n"
