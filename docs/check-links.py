"""Checks every link of the built book, and those of the pages that are read in the repository. Run by scripts/book."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

book, root = Path(sys.argv[1]), Path(sys.argv[2])
wrong, checked = [], 0


class Page(HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name"):
                self.ids.add(value)
            # Scripts of the theme find their own way.
            elif name in ("href", "src") and tag in ("a", "img", "link") and value:
                self.links.append(value)


# print.html is all pages once more, with links of its own making.
pages = {path: Page(path) for path in book.rglob("*.html") if path.name not in ("print.html", "404.html", "toc.html")}
for path, page in pages.items():
    for link in page.links:
        target = urlsplit(link)
        if target.scheme or target.netloc:
            continue
        checked += 1
        file = (path.parent / unquote(target.path)).resolve() if target.path else path.resolve()
        name = path.relative_to(book)
        if not file.exists():
            wrong.append(f"{name}: {link}: there is no such page")
        elif target.fragment and file.suffix == ".html":
            other = next((p for f, p in pages.items() if f.resolve() == file), None)
            if other and unquote(target.fragment) not in other.ids:
                wrong.append(f"{name}: {link}: there is no such heading")

# In the repository, where pages are read as they are.
for path in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = urlsplit(link)
        if target.scheme or not target.path:
            continue
        checked += 1
        missing = not (path.parent / unquote(target.path)).exists()
        coming = path.parent == root / "docs" and (book / target.path).with_suffix(".html").exists()
        if missing and not coming:
            wrong.append(f"{path.relative_to(root)}: {link}: there is no such file")

for line in wrong:
    print(line, file=sys.stderr)
if wrong:
    sys.exit(1)
print(f"{checked} links on {len(pages)} pages: ok")
