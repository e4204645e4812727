"""Every function of engine.services that is told who acts asks whether they may: itself, or by what it calls first.

Read from the source, so that a new service without `require` fails here before anybody can call it."""

from __future__ import annotations

import ast
from pathlib import Path

SERVICES = Path(__file__).parents[3] / "engine" / "services"

# Functions that are told who acts and let everybody do it.
ASKS_NOBODY = {
    "accounts.account_of": "finds or adds the row of whoever was let in",
    "accounts.require": "is the question itself",
    "audit.record": "writes down what another service has allowed",
    "audit.record_refusal": "writes down what another service has refused",
    "audit.record_view": "writes down what another service has shown",
}

Function = tuple[str, str]  # module, name


def test_every_service_that_knows_who_acts_asks_for_their_role() -> None:
    functions = {
        (path.stem, node.name): node
        for path in sorted(SERVICES.glob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    told = {function for function, node in functions.items() if _actor_of(node)}
    assert len(told) > 100  # or the search has lost its way

    asking = {function for function in told if _asks_itself(functions[function])}
    while more := {function for function in told - asking if _calls(functions[function], function[0]) & asking}:
        asking |= more

    public = {f"{module}.{name}" for module, name in told - asking if not name.startswith("_")}
    assert public - ASKS_NOBODY.keys() == set(), "these let everybody in: call require(actor, ...) first"
    assert ASKS_NOBODY.keys() - public == set(), "these ask by now: take them off the list"


def _actor_of(node: ast.FunctionDef) -> str | None:
    """The parameter that says who acts."""
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        if argument.arg == "actor" or (argument.annotation is not None and ast.unparse(argument.annotation) == "Actor"):
            return argument.arg
    return None


def _asks_itself(node: ast.FunctionDef) -> bool:
    return any(_name(call) == "require" and _is_given(call, _actor_of(node)) for call in _calls_in(node))


def _calls(node: ast.FunctionDef, module: str) -> set[Function]:
    """The services that it hands its actor to; a name without a module is of the same file, or imported from one."""
    found = set()
    for call in _calls_in(node):
        if not _is_given(call, _actor_of(node)):
            continue
        if isinstance(call.func, ast.Name):
            found |= {(module, call.func.id)} | {(other.stem, call.func.id) for other in SERVICES.glob("*.py")}
        elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            found.add((call.func.value.id, call.func.attr))
    return found


def _calls_in(node: ast.FunctionDef) -> list[ast.Call]:
    """Those that are made whatever happens: a call under an `if` may never be made."""
    return [call for statement in _always(node.body) for call in _shallow_calls(statement)]


def _always(statements: list[ast.stmt]) -> list[ast.AST]:
    found: list[ast.AST] = []
    for statement in statements:
        if isinstance(statement, ast.If | ast.While):
            found.append(statement.test)
        elif isinstance(statement, ast.For):
            found.append(statement.iter)
        elif isinstance(statement, ast.With):
            found += [item.context_expr for item in statement.items] + _always(statement.body)
        elif isinstance(statement, ast.Try):
            found += _always(statement.body)
        elif not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found.append(statement)
    return found


def _shallow_calls(node: ast.AST) -> list[ast.Call]:
    if isinstance(node, ast.Lambda):
        return []
    inner = [call for child in ast.iter_child_nodes(node) for call in _shallow_calls(child)]
    return [node, *inner] if isinstance(node, ast.Call) else inner


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_given(call: ast.Call, actor: str | None) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(one, ast.Name) and one.id == actor for one in given)
