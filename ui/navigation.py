"""The workstation's pages, and who may open each. People are not shown what is not theirs, and are refused with a
sentence when they type its address; services check the role again."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from db.models import Role
from engine.services.accounts import READERS, Actor, require
from engine.settings import settings
from engine.sign_in_settings import Login

ADJUDICATORS = (Role.ADJUDICATOR,)
ADMINS: tuple[Role, ...] = ()  # an admin may open everything
ADMINISTRATION = "Administration"


@dataclass(frozen=True)
class Place:
    name: str  # of its file in ui/pages, and its address
    title: str
    roles: tuple[Role, ...]
    section: str = ""
    demo_too: bool = False  # in the demo everybody opens it, and acts there as the demo admin
    hidden: bool = False  # not among the links at the top


PLACES = (
    Place("worklist", "Worklist", READERS),
    Place("review", "Review", READERS),
    Place("growth", "Growth", READERS),
    Place("adjudication", "Adjudication", ADJUDICATORS),
    Place("upload", "Upload", READERS),
    Place("quarantine", "Quarantine", READERS),
    Place("export", "Export", ADMINS, demo_too=True),
    Place("dashboards", "Dashboards", READERS),
    Place("quality", "Quality", ADMINS, ADMINISTRATION, demo_too=True),
    Place("retrain", "Retrain", ADMINS, ADMINISTRATION, demo_too=True),
    Place("models", "Models", ADMINS, ADMINISTRATION, demo_too=True),
    Place("connections", "Connections", ADMINS, ADMINISTRATION),
    Place("audit_log", "Audit log", ADMINS, ADMINISTRATION),
    Place("tokens", "API access", ADMINS, ADMINISTRATION, demo_too=True),
    Place("users", "Users", ADMINS, ADMINISTRATION),
    Place("account", "Account", READERS, hidden=True),
)
_BY_NAME = {place.name: place for place in PLACES}


def may_open(place: Place, user: Actor) -> bool:
    in_demo = place.demo_too and settings().sign_in.login is Login.DEMO
    return in_demo or user.role is Role.ADMIN or user.role in place.roles


def navigation(user: Actor) -> StreamlitPage:
    """The page that the address names."""
    sections: dict[str, list[StreamlitPage]] = {}
    for place in PLACES:
        shown = may_open(place, user) and not place.hidden
        page = st.Page(
            f"pages/{place.name}.py",
            title=place.title,
            url_path=place.name,
            default=place is PLACES[0],
            visibility="visible" if shown else "hidden",
        )
        sections.setdefault(place.section, []).append(page)
    return st.navigation(sections, position="top")


def require_place(page: StreamlitPage, user: Actor) -> None:
    """Raises NotAllowed for a page that is not theirs."""
    place = _BY_NAME[page.url_path or PLACES[0].name]
    if not may_open(place, user):
        require(user, *place.roles)
