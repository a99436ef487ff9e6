"""Python sources by what they define and call: where the text of a name may come from."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Module:
    """One source file. `path` is relative, with slashes."""

    path: str
    tree: ast.Module

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Names assigned at the top."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            for target, value in assignments(node):
                if isinstance(target, ast.Name):
                    found[target.id] = value
        return found

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Name -> path of the module that it is from, without `.py`, and its name there."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = self.path.split("/")[: -node.level]
                module = "/".join([*folder, *(node.module or "").split(".")])
                for each in node.names:
                    found[each.asname or each.name] = (module, each.name)
        return found


@dataclass(frozen=True, eq=False)
class Place:
    """Where an expression stands: in the functions from outermost to innermost."""

    module: Module
    functions: tuple[FunctionNode, ...] = ()

    def of(self, node: ast.AST) -> str:
        return f"{self.module.path}:{getattr(node, 'lineno', 0)}"


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method of the sources."""

    node: FunctionNode
    place: Place  # within it
    owner: str = ""  # its class
    is_bound: bool = False  # the first parameter is not among a call's arguments

    @property
    def called_as(self) -> tuple[str, ...]:
        """The names in the calls that may mean it."""
        is_maker = self.node.name == "__init__"
        return (self.owner, "__init__") if is_maker else (self.node.name,)

    def argument(self, call: ast.Call, place: Place, name: str) -> tuple[ast.expr, Place] | None:
        """What a call, which stands in `place`, gives for a parameter; its default, if there is
        one and it gives none."""
        for keyword in call.keywords:
            if keyword.arg == name:
                return keyword.value, place
        parameters = [*self.node.args.posonlyargs, *self.node.args.args]
        names = [each.arg for each in parameters]
        if name in names:
            number = names.index(name) - self.is_bound
            given = call.args[: number + 1]
            if len(given) > number and not any(isinstance(each, ast.Starred) for each in given):
                return given[number], place
        default = self._defaults.get(name)
        return None if default is None else (default, Place(self.place.module))

    @property
    def _defaults(self) -> dict[str, ast.expr]:
        arguments = self.node.args
        last = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) or None :]
        defaults = dict(zip([each.arg for each in last], arguments.defaults, strict=False))
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        return defaults | {each.arg: value for each, value in named if value is not None}


@dataclass(eq=False)
class SourceIndex:
    """All sources below some folders."""

    modules: dict[str, Module] = field(default_factory=dict)
    functions: dict[str, list[Function]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, list[tuple[ast.Call, Place]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    attributes: dict[str, list[tuple[ast.expr, Place]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    raises: list[tuple[ast.Raise, Place]] = field(default_factory=list)
    _fields: dict[str, list[str]] = field(default_factory=dict)  # of classes

    @classmethod
    def of_folders(cls, root: Path, folders: Sequence[str]) -> SourceIndex:
        paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
        return cls.of_texts(
            {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
        )

    @classmethod
    def of_texts(cls, texts: dict[str, str]) -> SourceIndex:
        """Of path -> source."""
        index = cls()
        for path, text in texts.items():
            module = Module(path, ast.parse(text))
            index.modules[path.removesuffix(".py")] = module
            index._add(module.tree, Place(module))
        index._add_fields()
        return index

    def constant(self, module: Module, name: str) -> tuple[ast.expr, Place] | None:
        """The expression of a module's name, also of one that it imports."""
        for _ in range(5):  # imported from where it is imported
            if name in module.constants:
                return module.constants[name], Place(module)
            if name not in module.imports:
                return None
            path, name = module.imports[name]
            found = self.modules.get(path) or self.modules.get(f"{path}/__init__")
            if found is None:
                return None
            module = found
        return None

    def called(self, call: ast.Call, module: Module) -> list[Function]:
        """The functions that a call may mean: of this name, those of its module before others."""
        every = self.functions.get(called_name(call), [])
        if not isinstance(call.func, ast.Name):
            return every
        own = [each for each in every if each.place.module is module]
        path, name = module.imports.get(call.func.id, ("", ""))
        there = [
            each
            for each in self.functions.get(name, [])
            if self.modules.get(path) is each.place.module
        ]
        return own or there or every

    def _add(self, node: ast.AST, place: Place, owner: str = "") -> None:
        for child in ast.iter_child_nodes(node):
            inside = place
            if isinstance(child, FunctionNode):
                inside = Place(place.module, (*place.functions, child))
                static = any("staticmethod" in ast.unparse(d) for d in child.decorator_list)
                self.functions[child.name].append(
                    Function(child, inside, owner, is_bound=bool(owner) and not static)
                )
                if any("property" in ast.unparse(d) for d in child.decorator_list):
                    for value in returned(child):
                        self.attributes[child.name].append((value, inside))
            elif isinstance(child, ast.Raise):
                self.raises.append((child, place))
            elif isinstance(child, ast.Call):
                self.calls[called_name(child)].append((child, place))
                for keyword in child.keywords if _makes_own_object(child) else ():
                    if keyword.arg is not None:
                        self.attributes[keyword.arg].append((keyword.value, place))
            for target, value in assignments(child):
                if isinstance(target, ast.Attribute):
                    self.attributes[target.attr].append((value, place))
                elif isinstance(target, ast.Name) and owner:
                    self.attributes[target.id].append((value, place))
            if isinstance(child, ast.ClassDef):
                self._fields[child.name] = [
                    each.target.id
                    for each in child.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                ]
            self._add(child, inside, child.name if isinstance(child, ast.ClassDef) else "")

    def _add_fields(self) -> None:
        """What calls give for the fields of a dataclass by their order."""
        for name, fields in self._fields.items():
            for call, place in self.calls.get(name, []):
                for attribute, value in zip(fields, call.args, strict=False):
                    self.attributes[attribute].append((value, place))


def called_name(call: ast.Call) -> str:
    """The last name of what is called; empty for what has none."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _makes_own_object(call: ast.Call) -> bool:
    """Whether it calls a class by its name alone: those of a schema are the host's, `io.Schema`."""
    return isinstance(call.func, ast.Name) and call.func.id[:1].isupper()


def within(function: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function, those of functions inside it apart."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, FunctionNode | ast.Lambda | ast.ClassDef):
            yield from within(child)


def returned(function: FunctionNode) -> list[ast.expr]:
    """What it returns or yields."""
    return [
        node.value
        for node in within(function)
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None
    ]


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(target, value) of a statement or a loop, unpacked where both sides are written out."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _pairs(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension):
        rows = node.iter.elts if isinstance(node.iter, ast.Tuple | ast.List) else [node.iter]
        is_written_out = rows != [node.iter]
        for row in rows:
            if is_written_out:
                yield from _pairs(node.target, row)
            else:  # of what is not known item by item
                yield node.target, ast.Starred(row)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple | ast.List):
        if isinstance(value, ast.IfExp):
            yield from _pairs(target, value.body)
            yield from _pairs(target, value.orelse)
            return
        if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
            for one, other in zip(target.elts, value.elts, strict=True):
                yield from _pairs(one, other)
            return
    yield target, value
