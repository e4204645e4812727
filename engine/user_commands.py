"""`pediscreen user`: who may sign in, from the machine itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.services.users import UserRow


def add_to(commands: Any, user: Callable[[argparse.Namespace], None]) -> None:
    """Adds its parsers; `user` is what engine.cli calls for them."""
    sub = commands.add_parser("user", help="who may sign in", description="who may sign in")
    actions = sub.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="everybody, with their role and when they were last seen")
    action = actions.add_parser("add", help="a person's account; prints the one-time password")
    action.add_argument("username", metavar="NAME", help="what they type at sign-in")
    action.add_argument("--display-name", metavar="TEXT", help="what others see; otherwise the user name")
    action.add_argument("--role", choices=("reader", "adjudicator", "admin"), default="reader")
    action = actions.add_parser("role", help="give another role; they are signed out")
    action.add_argument("username", metavar="NAME")
    action.add_argument("role", choices=("reader", "adjudicator", "admin"), metavar="ROLE")
    for name, help_text in (
        ("disable", "they are out at once, and do not get in again"),
        ("enable", "they may sign in again"),
        ("reset", "prints a new one-time password; they are signed out"),
    ):
        actions.add_parser(name, help=help_text).add_argument("username", metavar="NAME")
    for action in actions.choices.values():
        action.set_defaults(command=user)
        action.add_argument("--json", action="store_true", help="the result as JSON on standard output")


def run(url: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    """The result, and the same in words."""
    from db.models import Role
    from db.session import session_scope
    from engine.services import users
    from engine.services.accounts import command_line

    actor = command_line()
    with session_scope(url) as session:
        if arguments.action == "list":
            rows = users.users(session, actor)
            return [row.as_json() for row in rows], "\n".join(map(_line, rows)) or "There are no users yet."
        name = arguments.username
        if arguments.action == "add":
            shown = arguments.display_name or name
            return _one_time(name, users.add_user(session, actor, name, shown, Role(arguments.role)))
        if arguments.action == "reset":
            return _one_time(name, users.reset_password(session, actor, name))
        if arguments.action == "role":
            users.set_role(session, actor, name, Role(arguments.role))
            return {"username": name, "role": arguments.role}, f"{name} works as {arguments.role} from now on."
        if arguments.action == "disable":
            users.disable(session, actor, name)
        else:
            users.enable(session, actor, name)
        return {"username": name, "done": f"{arguments.action}d"}, f"{name} is {arguments.action}d."


def _one_time(name: str, password: str) -> tuple[Any, str]:
    text = f"One-time password of {name}: {password}\nIt is kept nowhere. They choose their own when they sign in."
    return {"username": name, "one_time_password": password}, text


def _line(row: UserRow) -> str:
    seen = f"last seen {row.last_seen_at:%Y-%m-%d %H:%M} UTC" if row.last_seen_at else "never seen"
    state = "disabled" if row.disabled_at else "one-time password" if row.must_change else "active"
    return f"{row.username:24} {row.role:12} {state:18} {seen}"
