"""What the documentation site needs beyond its pages: the README and ARCHITECTURE as pages, examples beside them.

The pages are written to be read in the repository, so they link to files outside ``docs/`` (``../examples/x.yaml``). On
the site those files lie beside the pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = {"index.md": "README.md", "architecture.md": "ARCHITECTURE.md"}
_OWN_PAGES = {"README.md": "index.md", "ARCHITECTURE.md": "architecture.md"}
_ROLE = re.compile(r":(?:class|func|data|mod|meth|attr):(?=<code>)")
_SHOWN = re.compile(r"(?<=\]\()(?:\.\./)*((?:examples|hw_models|sim|tests|workloads|kernels|search|reports)/[^)#\s]+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the root's two pages, and each file that some page links to."""
    for uri, source in _PAGES.items():
        files.append(File.generated(config, uri, content=(_ROOT / source).read_text(encoding="utf-8")))
    texts = [(_ROOT / source).read_text(encoding="utf-8") for source in _PAGES.values()]
    texts += [path.read_text(encoding="utf-8") for path in (_ROOT / "docs").rglob("*.md")]
    for target in sorted({found for text in texts for found in _SHOWN.findall(text)}):
        if (_ROOT / target).is_file():
            files.append(File.generated(config, _site_name(target), abs_src_path=str(_ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn links that hold in the repository into links that hold on the site."""
    up = "../" * page.file.src_uri.count("/")
    markdown = _SHOWN.sub(lambda found: up + _site_name(found.group(1)), markdown)
    if page.file.src_uri in _PAGES:
        markdown = markdown.replace("](docs/", "](")
    for source, uri in _OWN_PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{source}", f"]({up}{uri}", markdown)
    return markdown


def on_page_content(html: str, *, page: Any, config: Any, files: Files) -> str:
    """Docstrings say ``:class:`Name```; a reader wants the name."""
    return _ROLE.sub("", html)


def _site_name(target: str) -> str:
    """Code and data are shown as text by browsers; a page of markdown would be built."""
    return target if target.endswith((".png", ".svg")) else f"{target}.txt"
