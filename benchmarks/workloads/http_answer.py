"""Is an HTTP answer complete, and what does it say? As much of HTTP/1.1 as a load generator needs. Standard library
only.
"""

from __future__ import annotations


def parse_answer(buffer: bytes) -> tuple[int, bool] | None:
    """(status, whether the connection stays open) of a complete answer; None while some of it is missing."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = int(buffer[9:12])
    headers = buffer[:end].lower()
    keeps = b"\r\nconnection: close" not in headers
    start = end + 4
    if b"\r\ntransfer-encoding: chunked" in headers:
        return (status, keeps) if _chunks_complete(buffer, start) else None
    at = headers.find(b"\r\ncontent-length:")
    if at < 0:
        return (status, keeps) if status in (204, 304) else None
    line_end = headers.find(b"\r\n", at + 2)
    length = int(headers[at + 17 : line_end if line_end >= 0 else end])
    return (status, keeps) if len(buffer) >= start + length else None


def _chunks_complete(buffer: bytes, position: int) -> bool:
    while (line_end := buffer.find(b"\r\n", position)) >= 0:
        size = int(buffer[position:line_end].split(b";", 1)[0], 16)
        position = line_end + 2 + size + 2
        if size == 0:
            return len(buffer) >= position
    return False


def says_when_to_come_back(buffer: bytes) -> bool:
    """Whether the answer carries Retry-After (RFC 9110, 10.2.3): an explicit refusal."""
    return b"\r\nretry-after:" in buffer[: buffer.find(b"\r\n\r\n")].lower()
