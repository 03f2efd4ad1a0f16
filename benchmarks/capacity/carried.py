"""How does a page carry the report that it shows, so that it can be verified from the page alone?

HTML holds the compact JSON, compressed, in an inert <template>; a PDF holds capacity.json as an attached file, which
any reader can take out. Whatever is unpacked is bounded. Only files that Suanli wrote are understood.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from pathlib import Path
from typing import Any

MAX_BYTES = 256 * 1024 * 1024
ATTACHED = "capacity.json"
_IN_HTML = re.compile(r'<template id="suanli-capacity-json">([A-Za-z0-9+/=\s]*)</template>')
# The dictionary of an object of that type, up to where its stream begins. No object is longer than this before that.
_IN_PDF = re.compile(
    rb"obj\s*<<((?:(?!endobj|stream).){0,2000}?)/Type /EmbeddedFile((?:(?!endobj|stream).){0,2000}?)>>\s*stream\r?\n",
    re.DOTALL,
)


class NotAReport(ValueError):
    """The file carries no capacity report. The message says what was looked for."""


def packed(document: Any) -> str:
    """For the page: compact JSON, zlib, base64."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def read_document(path: Path) -> dict[str, Any]:
    """The report's JSON out of a .json, .html or .pdf file. Raises NotAReport, and OSError where it cannot be read."""
    data = path.read_bytes()
    if data.startswith(b"%PDF-"):
        return _document(_from_pdf(data), path)
    text = data.decode(errors="replace")
    if text.lstrip()[:1] == "{":
        return _document(text, path)
    found = _IN_HTML.search(text)
    if found is None:
        raise NotAReport(
            f"{path} is neither a capacity.json nor a page that carries one; name a .json, .html or .pdf file that "
            "`suanli report capacity` wrote"
        )
    try:
        return _document(_unpacked(base64.b64decode("".join(found[1].split()), validate=True)), path)
    except (binascii.Error, zlib.error) as error:
        raise NotAReport(f"{path}: the report that the page carries is damaged: {error}") from None


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise NotAReport(f"{path}: the report cannot be read: {error}") from None
    if not isinstance(document, dict) or not str(document.get("schema", "")).startswith("suanli/capacity/"):
        raise NotAReport(f"{path} is not a capacity report: its schema is not suanli/capacity")
    return document


def _from_pdf(data: bytes) -> str:
    """The attached file: a stream of type EmbeddedFile, as fpdf2 writes it, compressed or not."""
    for found in _IN_PDF.finditer(data):
        head = found[0]
        length = re.search(rb"/Length (\d+)", head)
        if length is None:
            continue
        body = data[found.end() : found.end() + int(length[1])]
        try:
            return _unpacked(body) if b"/FlateDecode" in head else body.decode()
        except (zlib.error, UnicodeDecodeError) as error:
            raise NotAReport(f"the report attached to the PDF is damaged: {error}") from None
    raise NotAReport(f"the PDF has no {ATTACHED} attached that can be read; verify capacity.json itself")


def _unpacked(data: bytes) -> str:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(data, MAX_BYTES)
    if unpacking.unconsumed_tail:
        raise zlib.error(f"more than {MAX_BYTES} bytes")
    return text.decode()
