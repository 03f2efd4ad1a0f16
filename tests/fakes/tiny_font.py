"""A font file with every letter that a report needs, each a box: so that PDFs are tested on machines without fonts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from benchmarks.capacity.words import Words, keys

CHINESE = "".join(sorted({letter for key in keys() for letter in Words("zh")(key)}))
LATIN = "".join(chr(code) for code in range(0x20, 0x7F)) + "·×–−“”’≤≥±µ°"


def write_font(path: Path, letters: str = "") -> Path:
    """Latin, and `letters` besides."""
    path.write_bytes(_font("".join(sorted(set(LATIN + letters)))))
    return path


@cache
def _font(letters: str) -> bytes:
    from io import BytesIO

    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = {ord(letter): f"u{ord(letter):04X}" for letter in letters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    for corner, place in enumerate(((100, 0), (100, 700), (500, 700), (500, 0))):
        (pen.lineTo if corner else pen.moveTo)(place)
    pen.closePath()
    box = pen.glyph()
    builder.setupGlyf(dict.fromkeys((".notdef", *names.values()), box))
    widths = {name: (1000 if code > 0x2E80 else 600, 100) for code, name in names.items()}
    builder.setupHorizontalMetrics({".notdef": (600, 100)} | widths)
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular", "psName": "Boxes-Regular"})
    builder.setupOS2(sTypoAscender=880, sTypoDescender=-120, usWinAscent=880, usWinDescent=120)
    builder.setupPost()
    made = BytesIO()
    builder.save(made)
    return made.getvalue()
