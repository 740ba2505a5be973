"""The little LaTeX of lab.inside as MathML, which browsers draw and screen readers speak.

    mathml(r"z = \\frac{q K^\\top}{\\sqrt{d_k}}")

No script and no font come from elsewhere for it. What is not in the tables below is refused, so a
new formula says by itself what it needs.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

NAMES = {
    r"\mu": "μ", r"\sigma": "σ", r"\epsilon": "ε", r"\gamma": "γ", r"\beta": "β", r"\top": "⊤",
    r"\infty": "∞", r"\max": "max",
}  # fmt: skip
OPERATORS = {
    r"\cdot": "·", r"\odot": "⊙", r"\sum": "∑", r"\neq": "≠", r"\leq": "≤", r"\wedge": "∧",
    r"\neg": "¬", r"\dots": "…", "-": "−", **{sign: sign for sign in "=+,()[]"},
}  # fmt: skip
ACCENTS = {r"\hat": "^", r"\tilde": "~"}
TOKEN = re.compile(r"\\begin\{cases\}|\\end\{cases\}|\\[A-Za-z]+|\\\\|\\,|\d+|\S")


def mathml(latex: str) -> str:
    """The formula as one <math> element, with its LaTeX as text for what cannot read MathML."""
    math = Element("math", display="block", alttext=latex)
    math.append(_Formula(latex).row())
    return tostring(math, encoding="unicode")


class _Formula:
    """Reads a formula from left to right."""

    def __init__(self, latex: str):
        self.latex = latex
        self.tokens: list[str] = TOKEN.findall(latex)

    def row(self, *ends: str) -> Element:
        """All up to one of `ends`, which is taken too, or to the end."""
        row = Element("mrow")
        row.extend(list(self._until(ends)))
        return row

    def _until(self, ends: tuple[str, ...]) -> Iterator[Element]:
        while self.tokens:
            if self.tokens[0] in ends:
                self.tokens.pop(0)
                return
            yield self._scripted()
        if ends:
            raise self._refused("its end")

    def _scripted(self) -> Element:
        """One thing with what stands below and above it."""
        base, scripts = self._one(), {}
        while self.tokens and self.tokens[0] in ("_", "^"):
            place = self.tokens.pop(0)
            scripts[place] = self._one()
        if not scripts:
            return base
        around = base.text == "∑"
        tag = {
            ("_",): "munder" if around else "msub",
            ("^",): "mover" if around else "msup",
            ("^", "_"): "munderover" if around else "msubsup",
        }[tuple(sorted(scripts))]  # fmt: skip
        return _made(tag, base, *(scripts[place] for place in ("_", "^") if place in scripts))

    def _one(self) -> Element:
        if not self.tokens:
            raise self._refused("its end")
        token = self.tokens.pop(0)
        if token == "{":
            return self.row("}")
        if token in (r"\frac", r"\sqrt"):
            arguments = 2 if token == r"\frac" else 1
            return _made("m" + token[1:], *(self._one() for _ in range(arguments)))
        if token in ACCENTS:
            return _made("mover", self._one(), _text("mo", ACCENTS[token]), accent="true")
        if token == r"\mathrm":
            letters = "".join(map(str, self._one().itertext()))
            return _text("mi", letters, mathvariant="normal")
        if token == r"\begin{cases}":
            return self._cases()
        if token == r"\,":
            return Element("mspace", width="0.17em")
        if token in OPERATORS:
            return _text("mo", OPERATORS[token])
        if token in NAMES or token.isalpha():
            return _text("mi", NAMES.get(token, token))
        if token.isdecimal():
            return _text("mn", token)
        raise self._refused(token)

    def _cases(self) -> Element:
        r"""a & b \\ c & d: a table behind a brace."""
        ends = ("&", r"\\", r"\end{cases}")
        table, row = Element("mtable"), None
        last = r"\\"
        while last != r"\end{cases}":
            row = SubElement(table, "mtr") if row is None or last == r"\\" else row
            cell = SubElement(row, "mtd")
            while self.tokens and self.tokens[0] not in ends:
                cell.append(self._scripted())
            if not self.tokens:
                raise self._refused("its end")
            last = self.tokens.pop(0)
        return _made("mrow", _text("mo", "{"), table)

    def _refused(self, what: str) -> ValueError:
        return ValueError(f"the formula {self.latex!r} cannot be drawn: {what} is unexpected")


def _text(tag: str, text: str, **attributes: str) -> Element:
    element = Element(tag, attributes)
    element.text = text
    return element


def _made(tag: str, *children: Element, **attributes: str) -> Element:
    element = Element(tag, attributes)
    element.extend(children)
    return element
