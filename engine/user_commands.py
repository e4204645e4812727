"""`pediscreen user ...`: who may sign in, from the machine itself."""

from __future__ import annotations

import argparse
from typing import Any

from db.models import Role
from db.session import session_scope
from engine.services import users
from engine.services.accounts import command_line
from engine.services.users import UserRow


def run(url: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    """The result, and the same in words."""
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
