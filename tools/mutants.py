"""Small wrong versions of a Python file, one change each: what a test suite should notice.

Changed: comparisons, arithmetic, and/or/not, numbers and truth values, min/max and any/all, the branches of a
condition, the order of two arguments. Dropped: statements, raises, `detach`, `clone`, `clamp`, `abs`, masks.
Left alone: annotations, decorators, docstrings and other text, asserts (our own bugs), `__repr__`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
TWINS = {"min": "max", "any": "all", "amin": "amax", "argmin": "argmax", "minimum": "maximum"}
TWINS |= {other: one for one, other in TWINS.items()}
DROPPED = {"detach", "clone", "clamp", "clamp_", "abs", "masked_fill", "masked_fill_"}
"""x.detach() becomes x."""
SYMMETRIC = {"min", "max", "equal", "isclose", "allclose", "minimum", "maximum", "transpose", "promote_types", "zip"}
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "bases", "type_params"}
SKIPPED_NODES = (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)
SKIPPED_FUNCTIONS = {"__repr__", "extra_repr"}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One wrong version of a file."""

    where: str
    """Function or class; "module" outside of both."""
    line: int
    """First line of the changed statement."""
    last: int
    """Its last line; of a function whose defaults changed, the last of its body."""
    before: str
    """The statement, or the head of a longer one."""
    after: str
    """The same, changed."""
    in_function: bool
    """Runs when it is called, not when it is imported."""
    source: str
    """The whole file."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    where: str
    statement: ast.stmt
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    in_function: bool

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    tree = ast.parse(source)
    for place in list(_places(tree, tree.body[0] if tree.body else ast.Pass(), "module", in_function=False)):
        before, old = _head(place.statement), place.node
        for new in _changes(place):
            place.put(ast.copy_location(new, old))
            whole_statement = old is place.statement
            after = _head(new) if whole_statement and isinstance(new, ast.stmt) else _head(place.statement)
            yield Mutant(
                where=place.where,
                line=place.statement.lineno,
                last=_last_line(place.statement),
                before=before,
                after="" if isinstance(new, ast.Pass) else after,
                in_function=place.in_function,
                source=ast.unparse(ast.fix_missing_locations(tree)),
            )
            place.put(old)


def _places(node: ast.AST, statement: ast.stmt, where: str, *, in_function: bool) -> Iterator[_Place]:
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if field in SKIPPED_FIELDS or not isinstance(child, ast.AST) or _is_skipped(child):
                continue
            here = child if isinstance(child, ast.stmt) else statement
            at = index if isinstance(value, list) else None
            yield _Place(
                where=where, statement=here, parent=node, field=field, index=at, node=child, in_function=in_function
            )
            if isinstance(child, ast.Raise):
                continue
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inside = where if not named else child.name if where == "module" else f"{where}.{child.name}"  # type: ignore[attr-defined]
            called = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _places(child, here, inside, in_function=called)


def _is_skipped(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef) and node.name in SKIPPED_FUNCTIONS:
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    strict = isinstance(node, ast.keyword) and node.arg == "strict"  # of zip: an assertion
    return is_text or names or strict or isinstance(node, SKIPPED_NODES)


def _head(node: ast.stmt) -> str:
    lines = ast.unparse(node).splitlines()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return next(line for line in lines if line.startswith(("def ", "async def ", "class ")))
    return lines[0] if hasattr(node, "body") else " ".join(" ".join(lines).split())


def _last_line(statement: ast.stmt) -> int:
    function = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
    if hasattr(statement, "body") and not function:
        return max(statement.lineno, statement.body[0].lineno - 1)
    return statement.end_lineno or statement.lineno


def _changes(place: _Place) -> Iterator[ast.AST]:
    match place.node:
        case ast.Compare(left=left, ops=[op], comparators=right):
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(left=left, ops=[other()], comparators=right)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC and not (_text(left) or _text(right)):
            yield ast.BinOp(left=left, op=ARITHMETIC[type(op)](), right=right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(op=ast.Or() if isinstance(op, ast.And) else ast.And(), values=values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value=value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value=2 * value if value else 1.0)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test=test, body=orelse, orelse=body)
        case ast.Call() as call:
            yield from _call_changes(call)
        case ast.stmt() as statement:
            yield from _statement_changes(statement, place)
    if (
        place.field == "test"
        and isinstance(place.node, ast.expr)
        and not isinstance(place.node, ast.Compare | ast.BoolOp)
    ):
        yield ast.UnaryOp(op=ast.Not(), operand=place.node)


def _call_changes(call: ast.Call) -> Iterator[ast.AST]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in DROPPED and isinstance(call.func, ast.Attribute):
        yield call.func.value
    if name == "where" and len(call.args) == 3:
        yield call.args[1]
    if name in TWINS and isinstance(call.func, ast.Attribute):
        func: ast.expr = ast.Attribute(value=call.func.value, attr=TWINS[name], ctx=ast.Load())
        yield ast.Call(func=func, args=call.args, keywords=call.keywords)
    elif name in TWINS:
        yield ast.Call(func=ast.Name(id=TWINS[name], ctx=ast.Load()), args=call.args, keywords=call.keywords)
    plain = len(call.args) >= 2 and not any(isinstance(arg, ast.Starred) for arg in call.args[:2])
    if plain and name not in SYMMETRIC and ast.dump(call.args[0]) != ast.dump(call.args[1]):
        yield ast.Call(func=call.func, args=[call.args[1], call.args[0], *call.args[2:]], keywords=call.keywords)


def _statement_changes(statement: ast.stmt, place: _Place) -> Iterator[ast.AST]:
    match statement:
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.AugAssign(target=target, op=op, value=value):
            yield ast.Pass()
            if type(op) in ARITHMETIC:
                yield ast.AugAssign(target=target, op=ARITHMETIC[type(op)](), value=value)
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _reads(value, name):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Subscript()]):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute()]) if not place.where.endswith("__init__"):
            yield ast.Pass()


def _reads(value: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(value))


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
