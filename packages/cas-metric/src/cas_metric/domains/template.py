"""The commented template that ``cas domains new`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cas_metric.errors import InputError

_TEMPLATE: Final = """\
# Domain pack {name!r}. Fill in every "…", then: cas domains validate {file}
# Lines that start with # are comments; indentation is two spaces.

name: {name}
title: …            # for people, e.g. "Woven fabric defects"
modality: …         # what kind of image, e.g. "photograph of woven fabric"
source: …           # where classes and descriptions come from
license: …          # licence of these texts, e.g. "CC BY 4.0"

# At least two classes, in the order in which tables shall list them. A label in a manifest is
# matched to a name or a synonym; case, hyphens and underscores do not count.
#
# The checklist says what is to be seen in every image of the class. Attributes are yours to name,
# the same for every class. Describe shape, size, colour, texture and place in plain words, as you
# would to someone who cannot know the diagnosis; say what is there, not what is missing. The text
# encoders read 64 to 77 tokens, about 45 words for a whole checklist: put what decides first.
# A text that holds ": " or starts with a quote or a bracket needs quotes around it.
classes:
  - name: …
    synonyms: []    # other spellings in your files, e.g. [ok, defect free]
    checklist:
      Location: …
      Shape/Size: …
      Color: …
      Texture: …
  - name: …
    synonyms: []
    checklist:
      Location: …
      Shape/Size: …
      Color: …
      Texture: …

# How checklist and class name become one text. Leave it out for this default:
# checklist_template: "{{condition}}. {{attributes}}"

# What leaves a picture of yours a plausible one; `cas memorization` then looks for copies that were
# altered so: mirror, rotate90 (quarter turns), invert (negative).
# symmetries: [mirror]

# Only needed when prompts are to be written by an image-describing model. Answers that break
# these rules are refused.
# prompt_schema:
#   role: expert in …
#   fields:
#     - name: place                       # a key of the answer
#       kind: choice                      # one of values
#       values: [centre, edge, whole image]
#     - name: summary
#       kind: phrase                      # free text
#       max_words: 18
#   forbid_negations: true
#   forbidden: []                         # terms that must never occur
#   template: ["{{label}}", "{{summary}}", "in the {{place}}"]

# By what `cas judge` ranks images; without it, by accuracy for the class and visual realism.
# ranking:
#   role: expert in …
#   criteria:
#     Accuracy: …
#     Visual realism: …
"""


def new_pack(name: str, directory: Path) -> Path:
    """Write a commented template.

    Args:
        name: Name of the new domain: lower case, digits, dots, hyphens; an ending ``.yaml`` is
            none of it.
        directory: Folder to write ``<name>.yaml`` into; made if it does not exist.

    Returns:
        The file.

    Raises:
        InputError: The name is not usable, or the file exists already.

    Examples:
        >>> new_pack("my-ultrasound", Path("packs")).name
        'my-ultrasound.yaml'
    """
    name = name.removesuffix(".yaml").removesuffix(".yml")
    if not name or name.strip("abcdefghijklmnopqrstuvwxyz0123456789.-") or not name[0].isalnum():
        raise InputError(
            f"{name!r} cannot be the name of a domain",
            fix="use lower-case letters, digits, dots and hyphens, e.g. 'textile'",
        )
    path = directory / f"{name}.yaml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATE.format(name=name, file=path))
    except FileExistsError:
        raise InputError(f"{path} exists already", fix="choose another name or folder") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from None
    return path
