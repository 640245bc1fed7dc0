"""Cues as the texts of subtitle files. PURE."""

import xml.etree.ElementTree as ET  # nosec B405 - written, not read
from collections.abc import Callable, Sequence
from datetime import timedelta

import srt

from deployments.media.captions import Cue

_TTML, _PARAMETER, _STYLING = (
    "http://www.w3.org/ns/ttml",
    "http://www.w3.org/ns/ttml#parameter",
    "http://www.w3.org/ns/ttml#styling",
)
_PROFILE = "http://www.w3.org/ns/ttml/profile/imsc1/text"


def to_srt(cues: Sequence[Cue], language: str) -> str:  # noqa: ARG001 - a SubRip file doesn't tell its language
    """The text of a SubRip file."""
    text: str = srt.compose(
        srt.Subtitle(n, timedelta(milliseconds=cue.start_ms), timedelta(milliseconds=cue.end_ms), cue.text)
        for n, cue in enumerate(cues, 1)
    )
    return text


def to_vtt(cues: Sequence[Cue], language: str) -> str:
    """The text of a WebVTT file."""
    blocks = [f"{_time(cue.start_ms)} --> {_time(cue.end_ms)}\n{_escaped(cue.text)}\n" for cue in cues]
    return "\n".join([f"WEBVTT\nLanguage: {language}\n" if language else "WEBVTT\n", *blocks])


def to_ttml(cues: Sequence[Cue], language: str) -> str:
    """The text of a TTML file, in the text profile of IMSC 1."""
    for prefix, namespace in (("", _TTML), ("ttp", _PARAMETER), ("tts", _STYLING)):
        ET.register_namespace(prefix, namespace)
    document = ET.Element(f"{{{_TTML}}}tt", {
        "{http://www.w3.org/XML/1998/namespace}lang": language,
        f"{{{_PARAMETER}}}profile": _PROFILE,
        f"{{{_PARAMETER}}}timeBase": "media",
    })  # fmt: skip
    head = ET.SubElement(document, f"{{{_TTML}}}head")
    regions = ET.SubElement(head, f"{{{_TTML}}}layout")
    ET.SubElement(regions, f"{{{_TTML}}}region", {
        "{http://www.w3.org/XML/1998/namespace}id": "bottom",
        f"{{{_STYLING}}}origin": "10% 80%", f"{{{_STYLING}}}extent": "80% 15%",
        f"{{{_STYLING}}}displayAlign": "after", f"{{{_STYLING}}}textAlign": "center",
    })  # fmt: skip
    division = ET.SubElement(ET.SubElement(document, f"{{{_TTML}}}body", {"region": "bottom"}), f"{{{_TTML}}}div")
    for cue in cues:
        times = {"begin": _time(cue.start_ms), "end": _time(cue.end_ms)}
        paragraph = ET.SubElement(division, f"{{{_TTML}}}p", times)
        first, *rest = "".join(filter(_is_xml, cue.text)).split("\n")
        paragraph.text = first
        for line in rest:
            ET.SubElement(paragraph, f"{{{_TTML}}}br").tail = line
    ET.indent(document)
    return ET.tostring(document, encoding="unicode", xml_declaration=True) + "\n"


CAPTION_FORMATS: dict[str, Callable[[Sequence[Cue], str], str]] = {"srt": to_srt, "vtt": to_vtt, "ttml": to_ttml}
"""What subtitles can be written as, by the file's extension; each takes cues and their language."""


def _time(ms: int) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_xml(character: str) -> bool:
    """Whether XML 1.0 may hold it."""
    return (
        character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character > "\uffff"
    )
