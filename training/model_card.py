"""The model card: README.md of a published model, from its certificate and its evaluation. And its licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.inference.access import TERMS_NAME, TERMS_PAGE
from engine.inference.checkpoint import ReadingCard
from engine.subgroups import UNKNOWN
from training import evaluation_words as words
from training.report_charts import with_interval

PROHIBITED_USES = "https://developers.google.com/health-ai-developer-foundations/prohibited-use-policy"
HAI_DEF_NOTICE = f"""\
HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at {TERMS_PAGE}

The weights here were changed from MedGemma's: a LoRA adapter was merged into them and they were quantised to 4 bits.
The use restrictions of section 3.2 of those terms and the prohibited use policy ({PROHIBITED_USES})
bind everyone who uses or passes on these weights. Clinical use needs the authorisation of the health authority
concerned.
"""
APACHE_NOTICE = """\
Licensed under the Apache License, Version 2.0 (http://www.apache.org/licenses/LICENSE-2.0).
The weights were trained on synthetic images only.
"""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
TASK_TITLES = {
    Task.BONE_AGE: "Bone age (hand radiograph, months, Greulich-Pyle)",
    Task.ROP: "Retinopathy of prematurity (fundus image; zone, stage, plus disease)",
    Task.FRACTURE: "Fracture (wrist radiograph; distal radius, buckle, normal)",
}


class LicenceUnknown(PediScreenError):
    """The base model's terms are not known here, so nothing can be passed on."""


@dataclass(frozen=True)
class Licence:
    """`identifier`, `name`, `link`: as the hub's card wants them. `notice`: the text that goes along."""

    identifier: str
    name: str
    link: str
    notice: str
    needs_acceptance: bool


APACHE = Licence("apache-2.0", "Apache-2.0", "http://www.apache.org/licenses/LICENSE-2.0", APACHE_NOTICE, False)
HAI_DEF = Licence("other", "health-ai-developer-foundations", TERMS_PAGE, HAI_DEF_NOTICE, True)


def licence_of(base_model: str, is_phantom: bool) -> Licence:
    """Raises LicenceUnknown for a base that is neither the phantom model nor MedGemma."""
    if is_phantom:
        return APACHE
    if "medgemma" in base_model.lower():
        return HAI_DEF
    raise LicenceUnknown(
        f"The licence of the base model {base_model!r} is not known here; only the phantom model and MedGemma "
        f"({TERMS_NAME}) can be published."
    )


def tasks_in(evaluation: dict[str, Any]) -> list[Task]:
    return [task for task in Task if figures_of(evaluation.get(task))]


def figures_of(found: Any) -> dict[str, dict[str, Any]]:
    """The figures of one task: entries with a value and an interval."""
    if not isinstance(found, dict):
        return {}
    return {name: figure for name, figure in found.items() if isinstance(figure, dict) and "value" in figure}


def as_markdown(
    repo_id: str, card: ReadingCard, parity: dict[str, Any], evaluation: dict[str, Any], licence: Licence
) -> str:
    """The card, with the hub's front matter."""
    base = parity["base_model"]
    head = ["---", f"license: {licence.identifier}"]
    if licence.identifier == "other":
        head += [f"license_name: {licence.name}", f"license_link: {licence.link}"]
    if HUB_NAME.fullmatch(base):
        head += [f"base_model: {base}", "base_model_relation: quantized"]
    head += [
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [medical, radiology, paediatrics, bone-age, retinopathy-of-prematurity, fracture, 4-bit]",
        "---",
    ]
    kind = "synthetic images (phantoms) only; it knows nothing of patients" if card.is_phantom else "images of patients"
    parts = [
        "\n".join(head),
        f"# {card.name}",
        "**Not for diagnostic use.** No health authority has authorised this model. Every read needs a radiologist's "
        "or ophthalmologist's own decision.",
        "## Intended use\n\n"
        "Research on, and tests of, the PediScreen review workstation: a first read of hand radiographs (bone age), "
        "fundus images (retinopathy of prematurity) and wrist radiographs (fracture) of children, which a specialist "
        "confirms, corrects or rejects. Not for: diagnosis or triage without a specialist, adults, other views or "
        "modalities, images of other kinds than those evaluated below.",
        f"## Data\n\nFine-tuned from {base}. Trained on {kind}. Evaluated on {_data_name(evaluation)}. No image and no "
        "record of a patient is part of this repository.",
        "## Figures\n\n" + "\n\n".join(_table(task, evaluation[task]) for task in tasks_in(evaluation)),
        "Intervals are 95 % bootstrap intervals. Targets are not promises: figures hold for the data named above.",
        "## Limits\n\n" + _limits(card, evaluation),
        "## 4-bit weights\n\n" + _certificate(parity),
        "## Loading\n\nWith PediScreen installed, no code from this repository is run:\n\n"
        f"    PEDISCREEN_MODEL={repo_id} pediscreen read FILE --task bone_age --sex M",
        f"## Licence\n\n[{licence.name}]({licence.link})\n\n{licence.notice.strip()}",
    ]
    return "\n\n".join(parts) + "\n"


def _data_name(evaluation: dict[str, Any]) -> str:
    """Without the folders of the machine it lay on."""
    said = str(evaluation.get("data", "a data set that the evaluation does not name"))
    return re.sub(r".*[/\\]", "", said)


def _table(task: Task, found: dict[str, Any]) -> str:
    counted = found.get("n_read", found.get("n"))
    lines = [f"### {TASK_TITLES[task]}", "", f"{counted} of {found.get('n')} images read.", ""]
    lines += ["| | value | 95 % interval |", "|---|---|---|"]
    for name, figure in figures_of(found).items():
        value = "undefined" if figure["value"] is None else f"{figure['value']:.3f}"
        low, high = figure.get("low"), figure.get("high")
        spread = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        lines.append(f"| {name.replace('_', ' ')} | {value} | {spread} |")
    return "\n".join(lines + _groups(task, found))


def _groups(task: Task, found: dict[str, Any]) -> list[str]:
    """The first figure by sex and age. Not by site: whose images they were is not for everyone to know."""
    figure = words.figure_of(task, words.BY_GROUP[task][0])
    rows = []
    for by in ("sex", "age"):
        for group, of_group in found.get("groups", {}).get(by, {}).items():
            value = of_group[figure.name]
            said = value.get("reason", "undefined") if value["value"] is None else with_interval(value, figure.text)
            name = group if group != UNKNOWN else f"{by} {UNKNOWN}"
            rows.append(f"| {name} | {of_group['n_read']} | {said} |")
    return ["", f"| | images read | {figure.words.lower()} (95 % interval) |", "|---|---|---|", *rows] if rows else []


def _limits(card: ReadingCard, evaluation: dict[str, Any]) -> str:
    missing = [TASK_TITLES[task] for task in Task if task not in tasks_in(evaluation)]
    lines = [
        "- Answers come from a closed set (229 bone ages, ICROP3 grades, three fracture classes); any other finding on "
        "an image goes unmentioned.",
        "- Performance on other devices, sites, ages and ancestries than those evaluated is unknown.",
    ]
    lines += [f"- Not evaluated: {title}." for title in missing]
    if card.is_phantom:
        lines.append("- Trained on drawings. On images of patients it must abstain, and its answers mean nothing.")
    return "\n".join(lines)


def _certificate(parity: dict[str, Any]) -> str:
    merged, four_bit = parity["merged_against_adapter"], parity["four_bit_against_merged"]
    return (
        f"On {four_bit['labels']} labels of held-out images, the merged bf16 weights and base + adapter agree on "
        f"{merged['label_agreement']:.1%} of the labels, the 4-bit weights here and the merged bf16 ones on "
        f"{four_bit['label_agreement']:.1%} (bone age: within a month). Largest difference of a probability: "
        f"{merged['largest_probability_difference']:.3g} and {four_bit['largest_probability_difference']:.3g}. "
        f"{parity['bytes'] / 1e9:.2f} GB."
    )
