"""What a text in Python sources may say: its fixed parts, and gaps where something is put in.

What is put in may be text of the sources again (a phrase), which is read in the same way.
"""

from __future__ import annotations

import ast
import itertools
import string
from collections.abc import Callable

from .sentence_forms import (
    OPEN,
    Form,
    Gap,
    Read,
    Sentences,
    has_words,
    is_bare,
    merged,
    template,
)
from .source_index import (
    FunctionNode,
    Place,
    SourceIndex,
    assignments,
    called_name,
    returned,
    within,
)

UNCHANGED = ("printable", "str")  # give back the text they get
SAME_ITEMS = ("list", "sorted", "tuple", "set", "fromkeys")  # what else they do to a list
APPLIED = ("removesuffix", "removeprefix", "lower", "capitalize", "strip")
MOST_INLINE = 4  # alternatives of a part that are written out as sentences of their own


class Reader:
    """Reads the expressions of `index`, what they may be and what they are put together of."""

    def __init__(self, index: SourceIndex) -> None:
        self.index = index
        self.found = Sentences()
        self._known: dict[tuple[ast.expr, str], list[Form]] = {}

    def take(self, forms: list[Form], node: ast.expr, place: Place) -> None:
        """Forms of a whole sentence."""
        for form in forms:
            if not is_bare(form) and has_words(template(form)):
                self.found.sentences.setdefault(template(form), place.of(node))
            elif is_bare(form) and (form != (OPEN,) or len(forms) == 1):
                entry = f"{place.module.path}: {ast.unparse(node)}"
                self.found.unresolved.setdefault(entry, place.of(node))

    def forms(self, node: ast.expr, place: Place) -> list[Form]:
        """What the expression may be; a lone gap stands for what is not known."""
        return self._once((node, "text"), lambda: self._read(node, place))

    def _read(self, node: ast.expr, place: Place) -> list[Form]:
        read = getattr(self, f"_read_{type(node).__name__}", None)
        found = [] if read is None else dict.fromkeys(map(merged, read(node, place)))
        return list(found) or [(Gap(ast.unparse(node)),)]

    def _once(self, key: tuple[ast.expr, str], read: Callable[[], list[Form]]) -> list[Form]:
        """What `read` finds, which is asked for once; what refers to itself adds nothing."""
        if key not in self._known:
            self._known[key] = [(OPEN,)]
            self._known[key] = read()
        return self._known[key]

    def _part(self, node: ast.expr, place: Place) -> list[Form]:
        """What stands in a sentence for this expression: its texts, where they are few and known;
        else a gap, and the texts are phrases."""
        found = self.forms(node, place)
        is_plain = all(isinstance(part, str) for form in found for part in form)
        is_short = len(found) <= MOST_INLINE and (is_plain or () in found)
        if not any(map(is_bare, found)) and (len(found) == 1 or is_short):
            return found
        self.found.note_phrases(found, place.of(node))
        return [(Gap(ast.unparse(node)),)]

    def _together(self, parts: list[list[Form]]) -> list[Form]:
        return [tuple(itertools.chain(*each)) for each in itertools.product(*parts)]

    # expressions
    def _read_Constant(self, node: ast.Constant, place: Place) -> list[Form]:
        return [(node.value,)] if isinstance(node.value, str) else [(OPEN,)]

    def _read_JoinedStr(self, node: ast.JoinedStr, place: Place) -> list[Form]:
        return self._together([self._piece(value, place) for value in node.values])

    def _piece(self, node: ast.expr, place: Place) -> list[Form]:
        """Of an f-string; what is shown in quotes, `!r`, is nobody's sentence."""
        if not isinstance(node, ast.FormattedValue):
            return self.forms(node, place)
        is_quoted = node.conversion == ord("r")
        return [(Gap(ast.unparse(node)),)] if is_quoted else self._part(node.value, place)

    def _read_BinOp(self, node: ast.BinOp, place: Place) -> list[Form]:
        if not isinstance(node.op, ast.Add):
            return [(Gap(ast.unparse(node)),)]
        parts = [self._part(each, place) for each in _added(node)]
        if all(is_bare(form) for part in parts for form in part):
            return [(Gap(ast.unparse(node)),)]  # of numbers
        return self._together(parts)

    def _read_IfExp(self, node: ast.IfExp, place: Place) -> list[Form]:
        return self.forms(node.body, place) + self.forms(node.orelse, place)

    def _read_BoolOp(self, node: ast.BoolOp, place: Place) -> list[Form]:
        return [form for value in node.values for form in self.forms(value, place)]

    def _read_Compare(self, node: ast.Compare, place: Place) -> list[Form]:
        return [(OPEN,)]  # true or false

    def _read_Subscript(self, node: ast.Subscript, place: Place) -> list[Form]:
        return [*self.items(node.value, place), (OPEN,)]

    def _read_Attribute(self, node: ast.Attribute, place: Place) -> list[Form]:
        found = self.index.attributes.get(node.attr, [])
        texts = [form for value, there in found for form in self.forms(value, there)]
        known: list[Form] = [form for form in texts if not is_bare(form)]
        return [*known, (OPEN,)] if known else [(Gap(ast.unparse(node)),)]

    def _read_Name(self, node: ast.Name, place: Place) -> list[Form]:
        return self._of_name(node, place, self.forms)

    def _read_Call(self, node: ast.Call, place: Place) -> list[Form]:
        name = called_name(node)
        if name == "next":
            default = [form for each in node.args[1:] for form in self.forms(each, place)]
            return self.items(node.args[0], place) + default
        if name in UNCHANGED or (name.endswith("Error") and node.args):
            return self.forms(node.args[0], place)
        if isinstance(node.func, ast.Attribute):
            if name == "format":
                return self._formatted(node, place)
            if name == "join":
                return self._joined(node, place)
            if name in APPLIED:
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                return [
                    (getattr(form[0], name)(*words),)
                    if len(form) == 1 and isinstance(form[0], str)
                    else form
                    for form in self.forms(node.func.value, place)
                ]
        return self._of_call(node, place, self.forms)

    def _formatted(self, node: ast.Call, place: Place) -> list[Form]:
        assert isinstance(node.func, ast.Attribute)
        found: list[Form] = []
        for form in self.forms(node.func.value, place):
            if len(form) != 1 or not isinstance(form[0], str):
                found.append(form)
                continue
            parts: list[list[Form]] = []
            given = iter([] if any(isinstance(a, ast.Starred) for a in node.args) else node.args)
            for text, name, _, _ in string.Formatter().parse(form[0]):
                parts.append([(text,)])
                if name is not None:
                    value = next(given, None)
                    gap: list[Form] = [(Gap(ast.unparse(node)),)]
                    parts.append(gap if value is None else self._part(value, place))
            if any(isinstance(a, ast.Starred) for a in node.args):
                for value in node.args:
                    if not isinstance(value, ast.Starred):
                        self._part(value, place)
            found += self._together(parts)
        return found

    def _joined(self, node: ast.Call, place: Place) -> list[Form]:
        """A list of names that is written out; what is joined otherwise are phrases."""
        assert isinstance(node.func, ast.Attribute)
        value = node.args[0]
        if isinstance(value, ast.Name):
            constant = self.index.constant(place.module, value.id)
            if constant is not None and isinstance(constant[0], ast.Tuple):
                items = self.items(value, place)
                separator = self.forms(node.func.value, place)[0][0]
                if all(len(form) == 1 and isinstance(form[0], str) for form in items):
                    return [(str(separator).join(str(form[0]) for form in items),)]
        self.found.note_phrases(self.items(value, place), place.of(node))
        return [(Gap(ast.unparse(node)),)]

    # lists
    def items(self, node: ast.expr, place: Place) -> list[Form]:
        """What the items of a list may be."""
        return self._once((node, "items"), lambda: self._items(node, place))

    def _items(self, node: ast.expr, place: Place) -> list[Form]:
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [form for each in node.elts for form in self._item(each, place)]
        if isinstance(node, ast.Dict):
            return [form for each in node.values for form in self._item(each, place)]
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            return self.forms(node.elt, place)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.items(node.left, place) + self.items(node.right, place)
        if isinstance(node, ast.IfExp):
            return self.items(node.body, place) + self.items(node.orelse, place)
        if isinstance(node, ast.Name):
            return self._appended(node, place) + self._of_name(node, place, self.items)
        if isinstance(node, ast.Call):
            if called_name(node) in SAME_ITEMS and node.args:
                return self.items(node.args[0], place)
            if called_name(node) in ("items", "values") and isinstance(node.func, ast.Attribute):
                return self.items(node.func.value, place)
            return self._of_call(node, place, self.items)
        return [(Gap(ast.unparse(node)),)]

    def _item(self, node: ast.expr, place: Place) -> list[Form]:
        return (
            self.items(node.value, place)
            if isinstance(node, ast.Starred)
            else self.forms(node, place)
        )

    def _appended(self, node: ast.Name, place: Place) -> list[Form]:
        found: list[Form] = []
        for function in place.functions:
            for call in within(function):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and ast.unparse(call.func.value) == node.id
                ):
                    if call.func.attr == "append":
                        found += self.forms(call.args[0], place)
                    elif call.func.attr == "extend":
                        found += self.items(call.args[0], place)
        return found

    # where names and calls lead
    def _of_name(self, node: ast.Name, place: Place, read: Read) -> list[Form]:
        for number in reversed(range(len(place.functions))):
            function = place.functions[number]
            there = Place(place.module, place.functions[: number + 1])
            found = self._assigned(node.id, function, there, read)
            if found is not None:
                return found
            if node.id in _parameters(function):
                return self._given(node, function, read)
        constant = self.index.constant(place.module, node.id)
        return [(Gap(node.id),)] if constant is None else read(*constant)

    def _assigned(
        self, name: str, function: FunctionNode, place: Place, read: Read
    ) -> list[Form] | None:
        """What a function puts under a name of its own; None where it is none."""
        found: list[list[Form]] = []
        for node in within(function):
            for target, value in assignments(node):
                if isinstance(target, ast.Name) and target.id == name:
                    if isinstance(value, ast.Starred):  # of a loop
                        found.append(self.items(value.value, place))
                    else:
                        found.append(read(value, place))
                elif isinstance(value, ast.Starred) and name in _names(target):
                    columns = self._column(name, target, value, place)
                    is_values = ast.unparse(value.value).endswith(".items()")
                    found += [read(*item) for item in columns] or [
                        self.items(value.value, place) if is_values else [(Gap(name),)]
                    ]
                elif name in _names(target):
                    found.append([(Gap(f"{name} of {ast.unparse(value)}"),)])
            if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name:
                added = read(node.value, place)
                is_text = read == self.forms
                found.append([(Gap(name), *form) for form in added] if is_text else added)
            if isinstance(node, ast.ExceptHandler) and node.name == name:
                found.append([(Gap(name),)])
        return list(itertools.chain(*found)) if found else None

    def _column(
        self, name: str, target: ast.expr, rows: ast.Starred, place: Place
    ) -> list[tuple[ast.expr, Place]]:
        """What a loop over the tuples of a list, written out or appended, puts under a name."""
        lists = [rows.value]
        if isinstance(rows.value, ast.Name):
            for node in (node for function in place.functions for node in within(function)):
                lists += [v for t, v in assignments(node) if ast.unparse(t) == rows.value.id]
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == f"{rows.value.id}.append"
                ):
                    lists.append(ast.Tuple(node.args))
        found = [
            row for each in lists if isinstance(each, ast.Tuple | ast.List) for row in each.elts
        ]
        same = [
            row for row in found if isinstance(row, ast.Tuple) and isinstance(target, ast.Tuple)
        ]
        return [
            (item, place)
            for row in same
            for one, item in zip(target.elts, row.elts, strict=False)  # type: ignore[attr-defined]
            if ast.unparse(one) == name
        ]

    def _given(self, node: ast.Name, function: FunctionNode, read: Read) -> list[Form]:
        """What the calls of a function give for its parameter."""
        found: list[Form] = [(OPEN,)]
        for each in self.index.functions[function.name]:
            if each.node is function:
                calls = [call for name in each.called_as for call in self.index.calls.get(name, [])]
                for call, place in calls:
                    value = each.argument(call, place, node.id)
                    if value is not None:
                        found += [form for form in read(*value) if not is_bare(form)]
        return found if len(found) > 1 else [(Gap(node.id),)]

    def _of_call(self, node: ast.Call, place: Place, read: Read) -> list[Form]:
        """What functions of this name return."""
        functions = self.index.called(node, place.module)
        values = [(value, each.place) for each in functions for value in returned(each.node)]
        found = [form for value in values for form in read(*value)]
        return found if values else [(Gap(ast.unparse(node)),)]


def _parameters(function: FunctionNode) -> set[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {each.arg for each in every}


def _added(node: ast.expr) -> list[ast.expr]:
    """The texts that are put together by `+`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_added(node.left), *_added(node.right)]
    return [node]


def _names(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
