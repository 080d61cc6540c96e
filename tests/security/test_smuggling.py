"""No request is hidden in another one: whatever can be read in two ways is refused, and nothing behind it is read."""

from __future__ import annotations

import json

import pytest

from tests.served import served, statuses

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY_CHUNKS = b"0\r\n\r\n"


def post(
    *headers: bytes, body: bytes = b"", line: bytes = b"POST /sent HTTP/1.1", host: bytes = b"Host: localhost\r\n"
):
    return line + b"\r\n" + host + b"".join(headers) + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body + HIDDEN)


LENGTH = b"Content-Length: %d\r\n" % len(EMPTY_CHUNKS + HIDDEN)

REFUSED = {
    "a length and chunks": post(LENGTH, CHUNKED, body=EMPTY_CHUNKS + HIDDEN),
    "chunks and a length": post(CHUNKED, LENGTH, body=EMPTY_CHUNKS + HIDDEN),
    "a length of none and chunks": post(b"Content-Length: 0\r\n", CHUNKED, body=EMPTY_CHUNKS + HIDDEN),
    "two lengths": post(b"Content-Length: 0\r\n", b"Content-Length: 43\r\n", body=HIDDEN),
    "the same length twice": post(b"Content-Length: 43\r\n" * 2, body=HIDDEN),
    "two lengths in one header": post(b"Content-Length: 0, 43\r\n", body=HIDDEN),
    "the same length twice in one header": post(b"Content-Length: 43, 43\r\n", body=HIDDEN),
    "a length with a plus": post(b"Content-Length: +0\r\n", body=HIDDEN),
    "a length with a minus": post(b"Content-Length: -1\r\n", body=HIDDEN),
    "a length with a blank in it": post(b"Content-Length: 4 3\r\n", body=HIDDEN),
    "a length with an underscore": post(b"Content-Length: 4_3\r\n", body=HIDDEN),
    "a hexadecimal length": post(b"Content-Length: 0x2B\r\n", body=HIDDEN),
    "a length with a fraction": post(b"Content-Length: 43.0\r\n", body=HIDDEN),
    "a length in superscript": post(b"Content-Length: \xb2\r\n", body=HIDDEN),
    "a length that is empty": post(b"Content-Length:\r\n", body=HIDDEN),
    "a length of too many digits": post(b"Content-Length: " + b"9" * 5000 + b"\r\n", body=HIDDEN),
    "a length with an underscore in its name": post(b"Content_Length: 43\r\n", body=HIDDEN),
    "a blank before the colon of the length": post(b"Content-Length : 43\r\n", body=HIDDEN),
    "a tab before the colon of the length": post(b"Content-Length\t: 43\r\n", body=HIDDEN),
    "a length that goes on in the next line": post(b"Content-Length:\r\n 43\r\n", body=HIDDEN),
    "a length behind a NUL": post(b"Content-Length: \x0043\r\n", body=HIDDEN),
    "a length behind a bare CR": post(b"X: a\rContent-Length: 43\r\n", body=HIDDEN),
    "a length behind a bare LF": post(b"X: a\nContent-Length: 43\r\n", body=HIDDEN),
    "chunks in another coding": post(b"Transfer-Encoding: gzip, chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks and identity": post(b"Transfer-Encoding: chunked, identity\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "identity and chunks": post(b"Transfer-Encoding: identity, chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "identity": post(b"Transfer-Encoding: identity\r\n", body=HIDDEN),
    "chunks of chunks": post(b"Transfer-Encoding: chunked, chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks twice": post(CHUNKED * 2, body=EMPTY_CHUNKS + HIDDEN),
    "chunks and identity in two headers": post(CHUNKED, b"Transfer-Encoding: identity\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "identity and chunks in two headers": post(b"Transfer-Encoding: identity\r\n", CHUNKED, body=EMPTY_CHUNKS + HIDDEN),
    "something like chunks": post(b"Transfer-Encoding: xchunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks in quotes": post(b'Transfer-Encoding: "chunked"\r\n', body=EMPTY_CHUNKS + HIDDEN),
    "chunks with a parameter": post(b"Transfer-Encoding: chunked;a=b\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks with an empty member": post(b"Transfer-Encoding: ,chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks behind a NUL": post(b"Transfer-Encoding: \x00chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks with an underscore in their name": post(b"Transfer_Encoding: chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "a blank before the colon of chunks": post(b"Transfer-Encoding : chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks that go on in the next line": post(b"Transfer-Encoding:\r\n chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks behind a bare LF": post(b"X: a\nTransfer-Encoding: chunked\r\n", body=EMPTY_CHUNKS + HIDDEN),
    "chunks in HTTP/1.0": post(CHUNKED, line=b"POST /sent HTTP/1.0", body=EMPTY_CHUNKS + HIDDEN),
    "chunks in HTTP/1.0, kept alive": post(
        CHUNKED, b"Connection: keep-alive\r\n", line=b"POST /sent HTTP/1.0", body=EMPTY_CHUNKS + HIDDEN
    ),
    "a header's line that begins with a blank": post(b" X: a\r\n", body=HIDDEN),
    "a header without a name": post(b": a\r\n", body=HIDDEN),
    "a header without a colon": post(b"Content-Length 43\r\n", body=HIDDEN),
    "a NUL in a header": post(b"X: a\x00b\r\n", body=HIDDEN),
    "a NUL in a header's name": post(b"X\x00: a\r\n", body=HIDDEN),
    "a header's name beyond ASCII": post(b"Content-L\xc3\xabngth: 43\r\n", body=HIDDEN),
    "two hosts": post(b"Host: example.com\r\n", body=HIDDEN),
    "no version": post(line=b"GET /sent", body=HIDDEN),
    "another version": post(line=b"POST /sent HTTP/2.0", body=HIDDEN),
    "an unknown version": post(line=b"POST /sent HTTP/1.1.1", body=HIDDEN),
    "a blank in the URL": post(line=b"POST /se nt HTTP/1.1", body=HIDDEN),
    "a tab for a blank": post(line=b"POST\t/sent\tHTTP/1.1", body=HIDDEN),
    "two blanks": post(line=b"POST  /sent HTTP/1.1", body=HIDDEN),
    "a NUL in the URL": post(line=b"POST /se\x00nt HTTP/1.1", body=HIDDEN),
    "a bare CR in the request line": post(line=b"POST /sent HTTP/1.1\rX: a", body=HIDDEN),
    "a method in small letters": post(line=b"post /sent HTTP/1.1", body=HIDDEN),
    "a URL without a slash": post(line=b"POST sent HTTP/1.1", body=HIDDEN),
    "two empty lines first": b"\r\n\r\n" + post(body=HIDDEN),
}

BROKEN_CHUNKS = {
    "a size that is no number": chunks(b"x\r\n\r\n0\r\n\r\n"),
    "a size with 0x": chunks(b"0x1\r\na\r\n0\r\n\r\n"),
    "a size with a plus": chunks(b"+1\r\na\r\n0\r\n\r\n"),
    "a size with a minus": chunks(b"-1\r\na\r\n0\r\n\r\n"),
    "a size with an underscore": chunks(b"0_1\r\na\r\n0\r\n\r\n"),
    "a size behind a blank": chunks(b" 1\r\na\r\n0\r\n\r\n"),
    "a size before a blank": chunks(b"1 \r\na\r\n0\r\n\r\n"),
    "an empty size": chunks(b"\r\na\r\n0\r\n\r\n"),
    "a chunk longer than its size": chunks(b"1\r\nab\r\n0\r\n\r\n"),
    "a chunk that ends with a bare LF": chunks(b"1\r\na\n0\r\n\r\n"),
    "a bare CR in an extension": chunks(b"1;a\rb\r\na\r\n0\r\n\r\n"),
    "a bare LF in an extension": chunks(b"1;a\nb\r\na\r\n0\r\n\r\n"),
    "an extension that is none": chunks(b"1;=\x00\r\na\r\n0\r\n\r\n"),
    "a length among the trailers": chunks(b"0\r\nContent-Length: 43\r\n\r\n"),
    "chunks among the trailers": chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a host among the trailers": chunks(b"0\r\nHost: example.com\r\n\r\n"),
}

# What is never complete is answered when its time is over.
UNENDING = {
    "lines that end with a bare LF": post(body=HIDDEN).replace(b"\r\n", b"\n"),
    "HTTP/0.9": b"GET /sent\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "chunks that end with a bare LF": post(CHUNKED, body=b"1\na\n0\n\n"),
    "a size of a chunk that never ends": post(CHUNKED, body=b"0" * 100),
    "a chunk that is longer than what is sent": post(CHUNKED, body=b"ff\r\n0\r\n\r\n"),
    "a length that is longer than what is sent": post(b"Content-Length: 100\r\n", body=HIDDEN),
}

READ_ONCE = {
    "a body of this length": (
        post(b"Content-Length: %d\r\n" % len(HIDDEN), b"Connection: close\r\n", body=HIDDEN),
        HIDDEN,
    ),
    "a length with zeros before it": (
        post(b"Content-Length: " + b"0" * 30 + b"%d\r\n" % len(HIDDEN), b"Connection: close\r\n", body=HIDDEN),
        HIDDEN,
    ),
    "chunks of this size": (
        post(CHUNKED, b"Connection: close\r\n", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        HIDDEN,
    ),
    "chunks with a tab before their name": (
        post(b"Transfer-Encoding:\tCHUNKED \r\n", b"Connection: close\r\n", body=b"1\r\na\r\n0\r\n\r\n"),
        b"a",
    ),
    "chunks with extensions and trailers": (
        post(CHUNKED, b"Connection: close\r\n", body=b'1;a="b";c\r\na\r\n000;d\r\nX: y\r\n\r\n'),
        b"a",
    ),
    "a body that looks like a last chunk": (
        post(CHUNKED, b"Connection: close\r\n", body=b"5\r\n0\r\n\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        b"0\r\n\r\na",
    ),
    "a body behind which the connection ends": (post(b"Connection: close\r\n", body=HIDDEN), b""),
    "HTTP/1.0, which ends the connection": (
        post(b"Content-Length: 1\r\n", line=b"POST /sent HTTP/1.0", body=b"a" + HIDDEN),
        b"a",
    ),
    "a URL with a host": (
        post(b"Connection: close\r\n", line=b"POST http://example.com/sent HTTP/1.1"),
        b"",
    ),
    "an empty line first": (b"\r\n" + post(b"Connection: close\r\n"), b""),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(
        "tests.bare:app", tmp_path_factory.mktemp("smuggling"), WEB_HEAD_TIMEOUT="0.5", WEB_BODY_TIMEOUT="0.5"
    ) as running:
        yield running


def problem_of(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines
    assert b"content-type: application/problem+json" in lines
    assert b"content-length: %d" % len(body) in lines
    assert not [line for line in lines if line.startswith(b"server:")]
    return json.loads(body)


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(server, content):
    answer = server.exchange(content)
    assert len(statuses(answer)) == 1
    problem = problem_of(answer)
    assert problem["status"] in {400, 501}
    assert b"hidden" not in answer


@pytest.mark.parametrize("content", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunks_are_refused_and_nothing_behind_them_is_read(server, content):
    answer = server.exchange(content)
    assert statuses(answer) == [400]
    assert problem_of(answer)["detail"]
    assert b"/hidden" not in answer


@pytest.mark.parametrize("content", UNENDING.values(), ids=UNENDING)
def test_what_never_becomes_a_request_is_given_up(server, content):
    answer = server.exchange(content)
    assert statuses(answer) in ([408], [400])
    assert problem_of(answer)["detail"]


@pytest.mark.parametrize(("content", "body"), READ_ONCE.values(), ids=READ_ONCE)
def test_what_is_valid_is_one_request_and_its_body_is_no_other_one(server, content, body):
    answer = server.exchange(content)
    assert statuses(answer) == [200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"asked": "POST /sent", "body": body.decode()}


def test_requests_sent_at_once_are_answered_one_by_one(server):
    first = post(CHUNKED, body=b"1\r\na\r\n0\r\n\r\n")
    second = post(b"Content-Length: 1\r\n", body=b"b")
    answers = server.exchange(first + second + post(b"Connection: close\r\n"))
    assert statuses(answers) == [200] * 3
    assert [part[:10] for part in answers.split(b'"body": ')[1:]] == [b'"a"}HTTP/1', b'"b"}HTTP/1', b'""}']


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (post(line=b"GET /" + b"x" * 9000 + b" HTTP/1.1"), 414, "The URL is too long."),
        (b"GET /" + b"x" * 9000, 414, "The URL is too long."),
        (post(b"X: " + b"x" * 9000 + b"\r\n"), 431, "There are too many headers, or they are too long."),
        (post(b"X: y\r\n" * 101), 431, "There are too many headers, or they are too long."),
        (post(*[b"X: " + b"x" * 8000 + b"\r\n"] * 9), 431, "The headers are too long."),
        (b"GET / HTTP/1.1\r\n" + (b"X: " + b"x" * 8000 + b"\r\n") * 9, 431, "The headers are too long."),
        (post(b"Expect: a miracle\r\n"), 417, "Nothing can be expected but 100-continue."),
    ],
    ids=["URL", "endless URL", "header", "headers", "head", "endless head", "expectation"],
)
def test_what_is_too_much_is_named(server, content, status, detail):
    answer = server.exchange(content)
    assert statuses(answer) == [status]
    assert problem_of(answer)["detail"] == detail


def test_a_refused_header_is_not_written_to_the_log(server):
    assert statuses(server.exchange(post(b"Authorization Bearer very-secret\r\n"))) == [400]
    assert "very-secret" not in server.log.read_text()
