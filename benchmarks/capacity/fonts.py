"""Which font can a PDF be set in? Glyphs are embedded, so the font must be a file on this machine.

For Chinese: Noto Sans CJK (Debian's fonts-noto-cjk) or another with Chinese glyphs; for English alone any of the usual
ones will do. `--font FILE` names one instead, for regular and bold alike. Only the glyphs that are used are embedded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.capacity.words import Language

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

# Regular and bold. Debian, Fedora, Arch and openSUSE keep them in these places.
_NOTO_PLACES = (
    "/usr/share/fonts/opentype/noto",
    "/usr/share/fonts/noto-cjk",
    "/usr/share/fonts/google-noto-sans-cjk-fonts",
    "/usr/share/fonts/google-noto-cjk",
    "/usr/share/fonts/truetype",
)
_CHINESE: tuple[tuple[Path, Path | None], ...] = (
    *((Path(place) / "NotoSansCJK-Regular.ttc", Path(place) / "NotoSansCJK-Bold.ttc") for place in _NOTO_PLACES),
    (Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"), None),
    (Path("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc"), None),
    (Path("/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf"), None),
)
_LATIN: tuple[tuple[Path, Path | None], ...] = (
    (
        Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
        Path("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"),
    ),
    (Path("/usr/share/fonts/TTF/DejaVuSans.ttf"), Path("/usr/share/fonts/TTF/DejaVuSans-Bold.ttf")),
    (Path("/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf"), None),
)
# Of a collection's faces the one for mainland China; its Latin is that of the others.
_FACE = "Noto Sans CJK SC"
_NEEDED = {"zh": "算力达成情况报告", "en": "Achieved"}


class NoFont(ValueError):
    """No font can set the report. The message says which package has one, and the option that names another."""


@dataclass(frozen=True, slots=True)
class Face:
    """A font file and, in a collection, which of its fonts."""

    path: Path
    number: int = 0


@dataclass(frozen=True, slots=True)
class Faces:
    regular: Face
    bold: Face


def find_faces(languages: Sequence[Language], font: Path | None = None) -> Faces:
    """Raises NoFont. `font` is used as it is told, or refused with the reason."""
    if font is not None:
        face = _face(font, languages)
        return Faces(face, face)
    for regular, bold in _CHINESE if "zh" in languages else (*_CHINESE, *_LATIN):
        try:
            face = _face(regular, languages)
        except NoFont:
            continue
        try:
            return Faces(face, face if bold is None else _face(bold, languages))
        except NoFont:
            return Faces(face, face)
    raise NoFont(
        "a PDF needs a font with Chinese characters and none was found; install one (Debian: apt-get install "
        "fonts-noto-cjk) or name a TrueType or OpenType file with --font FILE"
        if "zh" in languages
        else "a PDF needs a font and none was found; install one (Debian: apt-get install fonts-noto-cjk or "
        "fonts-dejavu-core) or name a TrueType or OpenType file with --font FILE"
    )


def _face(path: Path, languages: Sequence[Language]) -> Face:
    if not path.is_file():
        raise NoFont(f"--font {path}: there is no such file")
    number, missing = _read(path, "".join(_NEEDED[language] for language in languages))
    if missing:
        raise NoFont(f"--font {path}: the font has no glyphs for {missing}; name one with Chinese characters")
    return Face(path, number)


def _read(path: Path, needed: str) -> tuple[int, str]:
    """Which font of the file, and which of the needed characters it lacks."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    try:
        if path.suffix.lower() in (".ttc", ".otc"):
            with TTCollection(path, lazy=True) as collection:
                number = next((n for n, font in enumerate(collection.fonts) if _name(font) == _FACE), 0)
                return number, _lacking(collection.fonts[number], needed)
        with TTFont(path, lazy=True) as font:
            return 0, _lacking(font, needed)
    except (TTLibError, OSError, ValueError, KeyError, AssertionError) as error:
        raise NoFont(f"--font {path}: it cannot be read as a TrueType or OpenType font: {error}") from None


def _name(font: TTFont) -> str | None:
    name: str | None = font["name"].getDebugName(1)
    return name


def _lacking(font: TTFont, needed: str) -> str:
    known = font.getBestCmap() or {}
    return "".join(sorted({letter for letter in needed if ord(letter) not in known}))
