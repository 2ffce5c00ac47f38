"""Numbers and links for Quarto's cross-references, on Pandoc's syntax tree.

Pandoc knows citations but no `@fig-x`. Two passes make of it what Quarto would: `number` walks one
chapter in the order of reading, numbers its headings, figures, tables and equations, and says where
each label ended up; `link` replaces the references by links once the labels of all chapters are
known. The tree is Pandoc's JSON: elements are ``{"t": type, "c": content}``, an attribute is
``[id, [classes], [[key, value], ...]]``.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
CALLOUTS = ("note", "tip", "important", "warning", "caution")

Node = dict[str, Any]


@dataclass(frozen=True)
class Label:
    """Where a reference leads: ``kind`` and ``number`` make its text, "Figure 1.2"."""

    page: str
    kind: str
    number: str


@dataclass
class Chapter:
    """One page: its blocks, and the number it has in the book ("" for a front page)."""

    page: str
    number: str
    blocks: list[Node]
    title: str = ""
    labels: dict[str, Label] = field(default_factory=dict)


def number(chapter: Chapter) -> None:
    """Number the chapter's blocks and fill in its ``title`` and ``labels``.

    The caption of a labelled div is its last paragraph.
    """
    chapter.blocks = _Numbering(chapter).blocks(chapter.blocks)


def link(
    chapter: Chapter, labels: dict[str, Label], pages: dict[str, str], sources: Collection[str]
) -> list[str]:
    """Replace references by links; returns those, and the citations, that lead nowhere.

    Args:
        labels: of all chapters. A label whose page is not in ``pages`` is named without a link.
        pages: source file name -> page name; links between sources become links between pages.
        sources: keys of the bibliography; citations are left to Pandoc.
    """
    missing: list[str] = []

    def resolve(node: Node) -> list[Node] | None:
        if node["t"] == "Cite":
            done: list[Node] = []
            for citation in node["c"][0]:
                done += [_str(","), {"t": "Space"}] if done else []
                if _is_reference(citation):
                    done += _reference(citation, chapter.page, labels, pages.values(), missing)
                else:
                    done.append({"t": "Cite", "c": [[citation], []]})
                    if citation["citationId"] not in sources:
                        missing.append(citation["citationId"])
            return done if any(map(_is_reference, node["c"][0])) else None
        if node["t"] == "Link":
            target, _, fragment = node["c"][2][0].partition("#")
            if page := pages.get(target.rsplit("/", 1)[-1]):
                node["c"][2][0] = f"{page}#{fragment}" if fragment else page
        return None

    chapter.blocks = _rewrite(chapter.blocks, resolve)
    return missing


def text(node: Any) -> str:
    """Plain text of inlines or blocks."""
    if isinstance(node, list):
        return "".join(text(part) for part in node)
    if not isinstance(node, dict):
        return ""
    if node["t"] in ("Space", "SoftBreak", "LineBreak"):
        return " "
    if node["t"] in ("Str", "Code", "Math"):
        return node["c"] if isinstance(node["c"], str) else node["c"][-1]
    if node["t"] == "Cite":
        return text(node["c"][1])
    return text(node.get("c", []))


class _Numbering:
    def __init__(self, chapter: Chapter):
        self.chapter = chapter
        self.counts = Counter()
        self.sections = [0] * 7

    def blocks(self, nodes: list[Node]) -> list[Node]:
        return [done for node in nodes for done in self.block(node)]

    def block(self, node: Node) -> list[Node]:
        match node["t"]:
            case "Header":
                return [self.header(node)]
            case "Figure":
                return [self.figure(node)]
            case "Table":
                return [self.table(node)]
            case "Div":
                return self.div(node)
            case "CodeBlock":
                return _folded(node)
            case "Para" | "Plain":
                return [{"t": node["t"], "c": _numbered_math(node["c"], self.count)}]
            case "BlockQuote":
                return [{"t": "BlockQuote", "c": self.blocks(node["c"])}]
            case "BulletList":
                return [{"t": "BulletList", "c": [self.blocks(item) for item in node["c"]]}]
            case "OrderedList":
                style, items = node["c"]
                return [{"t": "OrderedList", "c": [style, [self.blocks(i) for i in items]]}]
        return [node]

    def count(self, identifier: str) -> str:
        """The next number of the identifier's kind, noted as its label."""
        kind = identifier.split("-")[0]
        self.counts[kind] += 1
        return self.note(identifier, KINDS[kind], self.prefixed(self.counts[kind]))

    def prefixed(self, number: int) -> str:
        return f"{self.chapter.number}.{number}" if self.chapter.number else str(number)

    def note(self, identifier: str, kind: str, number: str) -> str:
        self.chapter.labels[identifier] = Label(self.chapter.page, kind, number)
        return number

    def header(self, node: Node) -> Node:
        level, (identifier, classes, pairs), inlines = node["c"]
        if level == 1 and not self.chapter.title:
            self.chapter.title = text(inlines)
        if "unnumbered" in classes or not self.chapter.number:
            self.note(identifier, "", f"\u201c{text(inlines)}\u201d")
            return node
        if level == 1:
            number = self.chapter.number
            kind = "Appendix" if number.isalpha() else "Chapter"
        else:
            self.sections[level] += 1
            self.sections[level + 1 :] = [0] * (6 - level)
            number = ".".join([self.chapter.number, *map(str, self.sections[2 : level + 1])])
            kind = "Section"
        self.note(identifier, kind, number)
        numbered = [_span("header-section-number", [_str(number)]), _str("\u2002"), *inlines]
        return {"t": "Header", "c": [level, [identifier, classes, pairs], numbered]}

    def figure(self, node: Node, part: str = "") -> Node:
        """``part``: the letter of a panel within a figure."""
        attributes, (_, caption), content = node["c"]
        identifier = attributes[0]
        for image in find(content, "Image"):
            pairs = dict(image["c"][0][2])
            # The HTML writer takes the alternative text from the image's inlines.
            image["c"][1] = [_str(pairs.pop("fig-alt", text(image["c"][1])))]
            image["c"][0][2] = [[k, v] for k, v in pairs.items() if not k.startswith("fig-")]
        inlines = _inlines(caption)
        if part:
            inlines = [_str(f"({part}) "), *inlines]
        elif identifier.startswith("fig-"):
            inlines = _headed("Figure", self.count(identifier), inlines)
        return _figure(identifier, "panel" if part else "figure", inlines, content)

    def table(self, node: Node) -> Node:
        attributes, (_, caption), *rest = node["c"]
        identifier = attributes[0]
        if not identifier.startswith("tbl-"):
            return node
        inlines = _headed("Table", self.count(identifier), _inlines(caption))
        plain = {"t": "Table", "c": [["", *attributes[1:]], [None, []], *rest]}
        return _figure(identifier, "table", inlines, [plain])

    def div(self, node: Node) -> list[Node]:
        (identifier, classes, pairs), content = node["c"]
        options = dict(pairs)
        if kind := next((c for c in classes if c.removeprefix("callout-") in CALLOUTS), None):
            return [self.callout(kind.removeprefix("callout-"), options, content)]
        if not identifier.startswith(("fig-", "tbl-")):
            style = _columns(options)
            return [{"t": "Div", "c": [[identifier, classes, style], self.blocks(content)]}]
        code = [block for block in content if block["t"] == "CodeBlock"]
        shown = [block for block in content if block["t"] != "CodeBlock"]
        inlines = shown.pop()["c"] if shown and shown[-1]["t"] == "Para" else []
        number = self.count(identifier)
        kind = identifier[:3]
        panels = [panel for panel in find(shown, "Figure") if panel["c"][0][0]]
        for letter, panel in zip("abcdefghijklmnopqrstuvwxyz", panels, strict=False):
            self.note(panel["c"][0][0], KINDS[kind], f"{number} ({letter})")
            panel["c"] = self.figure(panel, letter)["c"]
        name = "table" if kind == "tbl" else "figure"
        inlines = _headed(KINDS[kind], number, inlines)
        figure = _figure(identifier, name, inlines, shown, _columns(options))
        return [*self.blocks(code), figure]

    def callout(self, kind: str, options: dict[str, str], content: list[Node]) -> Node:
        title = [_str(options.get("title", kind.capitalize()))]
        if content and content[0]["t"] == "Header":
            title, content = content[0]["c"][2], content[1:]
        body = self.blocks(content)
        if "collapse" in options:
            opened = " open" if options["collapse"] == "false" else ""
            head = [_html(f"<details{opened}><summary>"), {"t": "Plain", "c": title}]
            body = [*head, _html("</summary>"), *body, _html("</details>")]
        else:
            body = [{"t": "Div", "c": [["", ["callout-title"], []], [_plain(title)]]}, *body]
        return {"t": "Div", "c": [["", ["callout", f"callout-{kind}"], []], body]}


def _columns(options: dict[str, str]) -> list[list[str]]:
    """Attributes of a div that lays its blocks out side by side."""
    if "layout-ncol" not in options:
        return []
    return [["style", f"--columns: {options['layout-ncol']}"], ["data-columns", "yes"]]


def _folded(node: Node) -> list[Node]:
    (identifier, classes, pairs), code = node["c"]
    if "cell-code" not in classes:
        return [node]
    options = dict(pairs)
    opened = " open" if options.get("code-fold") in ("false", "show") else ""
    summary = options.get("code-summary", "Code")
    block = {"t": "CodeBlock", "c": [[identifier, classes, []], code]}
    return [_html(f"<details{opened}><summary>{summary}</summary>"), block, _html("</details>")]


def _numbered_math(inlines: list[Node], count: Callable[[str], str]) -> list[Node]:
    """``$$...$$ {#eq-x}`` as a span with the equation and its number."""
    done = []
    for node in inlines:
        label = re.fullmatch(r"\{#(eq-[\w-]+)\}(.*)", node["c"]) if node["t"] == "Str" else None
        if label and len(done) >= 1:
            if done[-1]["t"] in ("Space", "SoftBreak"):
                done.pop()
            number = _span("equation-number", [_str(f"({count(label[1])})")])
            done.append({"t": "Span", "c": [[label[1], ["equation"], []], [done.pop(), number]]})
            if label[2]:
                done.append(_str(label[2]))
        else:
            done.append(node)
    return done


def _is_reference(citation: dict[str, Any]) -> bool:
    return citation["citationId"].lower().split("-")[0] in KINDS


def _reference(
    citation: dict[str, Any],
    page: str,
    labels: dict[str, Label],
    pages: Collection[str],
    missing: list[str],
) -> list[Node]:
    name = citation["citationId"][0].lower() + citation["citationId"][1:]
    if name not in labels:
        missing.append(name)
        return [{"t": "Strong", "c": [_str(f"?@{name}")]}]
    label = labels[name]
    only_number = citation["citationMode"]["t"] == "SuppressAuthor" or not label.kind
    words = [_str(label.number if only_number else f"{label.kind}\u00a0{label.number}")]
    if label.page in pages:
        target = f"#{name}" if label.page == page else f"{label.page}#{name}"
        words = [{"t": "Link", "c": [["", ["crossref"], []], words, [target, ""]]}]
    prefix = citation["citationPrefix"]
    return [*prefix, *([{"t": "Space"}] if prefix else []), *words, *citation["citationSuffix"]]


def _rewrite(node: Any, replace: Callable[[Node], list[Node] | None]) -> Any:
    """The tree with every inline or block for which ``replace`` returns nodes replaced by them."""
    if isinstance(node, list):
        done = []
        for part in node:
            is_element = isinstance(part, dict) and "t" in part
            new = replace(part) if is_element else None
            done += [_rewrite(part, replace)] if new is None else new
        return done
    if isinstance(node, dict):
        return {key: _rewrite(value, replace) for key, value in node.items()}
    return node


def find(node: Any, kind: str) -> list[Node]:
    """Every element of a type, outermost first, not looking inside those found."""
    if isinstance(node, list):
        return [found for part in node for found in find(part, kind)]
    if not isinstance(node, dict):
        return []
    return [node] if node.get("t") == kind else find(node.get("c", []), kind)


def _inlines(blocks: list[Node]) -> list[Node]:
    return [inline for block in blocks if block["t"] in ("Para", "Plain") for inline in block["c"]]


def _headed(kind: str, number: str, inlines: list[Node]) -> list[Node]:
    colon = ":" if inlines else ""
    head = _span("caption-number", [_str(f"{kind}\u00a0{number}{colon}")])
    return [head, {"t": "Space"}, *inlines]


def _figure(
    identifier: str,
    name: str,
    caption: list[Node],
    content: list[Node],
    layout: Sequence[list[str]] = (),
) -> Node:
    body = {"t": "Div", "c": [["", [], [*layout]], content]}
    return {"t": "Figure", "c": [[identifier, [name], []], [None, [_plain(caption)]], [body]]}


def _plain(inlines: list[Node]) -> Node:
    return {"t": "Plain", "c": inlines}


def _span(name: str, inlines: list[Node]) -> Node:
    return {"t": "Span", "c": [["", [name], []], inlines]}


def _str(content: str) -> Node:
    return {"t": "Str", "c": content}


def _html(content: str) -> Node:
    return {"t": "RawBlock", "c": ["html", content]}
