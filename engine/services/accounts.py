"""Who acts, and what their role permits; the demo's users. People's accounts: engine.services.users."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Role, UserAccount
from db.repositories import accounts as repository
from engine.errors import NotAllowed


@dataclass(frozen=True)
class Actor:
    username: str
    display_name: str
    role: Role
    origin: str = ""  # where the action came from, as the audit log shows it: a machine's address or a program's name


def demo_reader() -> Actor:
    return Actor("demo-reader", "Demo reader", Role.READER)


def demo_second_reader() -> Actor:
    return Actor("demo-second-reader", "Demo second reader", Role.READER)


def demo_adjudicator() -> Actor:
    return Actor("demo-adjudicator", "Demo adjudicator", Role.ADJUDICATOR)


def demo_admin() -> Actor:
    return Actor("demo-admin", "Demo admin", Role.ADMIN)


DEMO_USERS = {
    actor.username: actor for actor in (demo_reader(), demo_second_reader(), demo_adjudicator(), demo_admin())
}
DEMO_USER_COOKIE = "pediscreen_demo_user"


def demo_user(username: str | None) -> Actor:
    """The demo reader where nobody, or nobody known, was chosen."""
    return DEMO_USERS.get(username or "", demo_reader())


def service_actor(name: str) -> Actor:
    """A program acting on its own behalf, such as the worker: it may ingest and record reads, never review."""
    return Actor(name, name, Role.SERVICE)


def command_line() -> Actor:
    """Whoever may run commands on this machine: its files are in their hands anyway."""
    return Actor("command-line", "Command line", Role.ADMIN, "cli")


READERS = (Role.READER, Role.ADJUDICATOR)


def require(actor: Actor, *roles: Role) -> None:
    """Raise NotAllowed unless the actor has one of `roles`. An admin may do everything."""
    if actor.role is not Role.ADMIN and actor.role not in roles:
        allowed = " or ".join(dict.fromkeys([*roles, Role.ADMIN]))
        raise NotAllowed(f"{actor.display_name} works here as {actor.role}; this needs the role {allowed}.")


def account_of(session: Session, actor: Actor) -> UserAccount:
    """The actor's row, added on their first act."""
    account = repository.account_by_username(session, actor.username)
    if account is not None:
        return account
    try:
        with session.begin_nested():
            return repository.add_account(session, actor.username, actor.display_name, actor.role)
    except IntegrityError:  # their other window was first
        account = repository.account_by_username(session, actor.username)
        if account is None:
            raise
        return account
