"""Growth: a child's chart and visits, visits from a file, and all children against WHO's references."""

from __future__ import annotations

import streamlit as st

from ui import errors
from ui.components import growth_child, growth_file, growth_of_all, page_parts

VIEWS = {
    "child": ("A child", growth_child.show),
    "file": ("From a file", growth_file.show),
    "children": ("All children", growth_of_all.distributions),
    "bone-age": ("Bone age and height", growth_of_all.bone_age),
    "supplied": ("Supplied z-scores", growth_of_all.supplied),
}


@errors.shown()
def show() -> None:
    wanted = st.query_params.get("view")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        page_parts.title("Growth", "WHO 2006 and 2007")
        view = st.segmented_control(
            "View",
            list(VIEWS),
            default=wanted if wanted in VIEWS else "child",
            required=True,
            format_func=lambda name: VIEWS[name][0],
            label_visibility="collapsed",
            key="growth_view",
            persist_state="session",
        )
    st.query_params["view"] = view
    VIEWS[view][1]()


show()
