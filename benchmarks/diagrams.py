"""Draw the diagrams of the documentation: ``docs/architecture/NAME.mmd`` to ``NAME.svg``.

The pictures are kept, so that building the site needs neither a browser nor the network. They are
drawn by mermaid itself, in Chromium::

    npm pack mermaid@11 && tar xzf mermaid-11*.tgz package/dist/mermaid.min.js
    python -m benchmarks.diagrams package/dist/mermaid.min.js
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "docs" / "architecture"
#: Plain text in place of HTML, which an SVG that stands in a page as an image may not hold; large,
#: because a narrow screen shows the whole drawing small.
SETTINGS = {
    "startOnLoad": False,
    "theme": "base",
    "htmlLabels": False,
    "deterministicIds": True,
    "flowchart": {"nodeSpacing": 24, "rankSpacing": 44, "padding": 12, "useMaxWidth": False},
    "themeVariables": {
        "fontFamily": "sans-serif",
        "fontSize": "22px",
        "primaryColor": "#d5efec",
        "primaryBorderColor": "#00796b",
        "primaryTextColor": "#10302c",
        "lineColor": "#4f7f79",
    },
}
PAGE = """<script src="{library}"></script><body><script>
mermaid.initialize({settings});
mermaid.render("diagram", {source}).then(made => {{ document.body.innerHTML = made.svg; }});
</script></body>"""


def digest(source: Path) -> str:
    """Of a diagram's source; its picture carries it, so that a test sees whether both agree."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def draw(source: Path, library: Path) -> str:
    """The SVG that mermaid makes of a source, on white, so that it reads on a dark page as well."""
    page = PAGE.format(
        library=library.resolve().as_uri(),
        settings=json.dumps(SETTINGS),
        source=json.dumps(source.read_text(encoding="utf-8")),
    )
    browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        done = subprocess.run(
            [browser, *options, f"--user-data-dir={folder}/profile", "--dump-dom", file.as_uri()],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"<svg.*</svg>", done.stdout, re.DOTALL)
    if found is None:
        raise SystemExit(f"{source.name}: mermaid drew nothing: {done.stdout[-500:]}")
    head, tail = found[0].split(">", 1)
    origin = f"<!-- drawn from {source.name}, sha256 {digest(source)} -->"
    return f'{head}>{origin}<rect width="100%" height="100%" fill="white"/>{tail}\n'


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("library", type=Path, help="mermaid.min.js")
    library = parser.parse_args().library
    for source in sorted(SOURCES.glob("*.mmd")):
        picture = source.with_suffix(".svg")
        picture.write_text(draw(source, library), encoding="utf-8")
        print(f"{picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
