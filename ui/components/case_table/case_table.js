/* A table of cases or files. Rows come from Python already filtered, sorted and paged; the table reports two things:
 * `open` (a study id: click, or Enter on the marked row) and `sort` (a column's name: click on its heading).
 *
 * data = {columns: [{name, label, sort, align, width}], rows: [{id, label, cells: {name: cell}}], sort, descending}
 * where a cell is a text or {text, note, tone}. */

const tables = new WeakMap();

const make = (tag, attributes, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter(Boolean));
  return element;
};

function cellOf(cell) {
  if (cell === null || cell === undefined || cell === "") return make("span", { className: "none", textContent: "–" });
  if (typeof cell === "string") return make("span", { textContent: cell });
  const parts = make("span", { className: cell.tone ? `tone ${cell.tone}` : "", textContent: cell.text });
  if (!cell.note) return parts;
  return make("span", {}, parts, " ", make("span", { className: "note", textContent: cell.note }));
}

class CaseTable {
  constructor(parent) {
    this.root = make("div", { className: "cases", tabIndex: 0, role: "group" }); // it scrolls
    parent.appendChild(this.root);
    this.onKey = (event) => this.key(event);
    window.addEventListener("keydown", this.onKey, true);
  }

  destroy() {
    window.removeEventListener("keydown", this.onKey, true);
    this.root.remove();
  }

  show(data, report) {
    this.report = report;
    this.rows = data.rows;
    this.root.style.setProperty("--table-height", data.height);
    this.root.ariaLabel = data.label;
    const marked = this.marked;
    const headings = data.columns.map((column) => {
      const heading = make("th", { scope: "col", className: column.align || "" });
      heading.style.width = column.width || "";
      if (!column.sort) return heading.append(column.label), heading;
      const isSorted = data.sort === column.sort;
      if (isSorted) heading.ariaSort = data.descending ? "descending" : "ascending";
      const arrow = isSorted ? (data.descending ? " ↓" : " ↑") : "";
      const button = make("button", { type: "button", textContent: column.label + arrow });
      button.onclick = () => report("sort", column.sort);
      heading.append(button);
      return heading;
    });
    const lines = data.rows.map((row) => {
      const line = make("tr", { tabIndex: -1, ariaLabel: row.label });
      line.dataset.study = row.id;
      if (row.done) line.className = "done";
      for (const column of data.columns) {
        const cell = cellOf(row.cells[column.name]);
        line.append(make("td", { className: column.align || "", title: cell.textContent }, cell));
      }
      line.onclick = () => report("open", row.id);
      return line;
    });
    const body = make("tbody", {}, ...lines);
    this.root.replaceChildren(
      make("table", { ariaLabel: data.label }, make("thead", {}, make("tr", {}, ...headings)), body),
    );
    this.lines = lines;
    const kept = this.rows.findIndex((row) => row.id === (marked ?? data.marked));
    this.mark(kept >= 0 ? kept : 0);
  }

  mark(index) {
    if (!this.lines.length) return;
    this.index = Math.min(this.lines.length - 1, Math.max(0, index));
    this.marked = this.rows[this.index].id;
    this.lines.forEach((line, at) => line.classList.toggle("marked", at === this.index));
    const line = this.lines[this.index];
    const headings = this.root.querySelector("thead").offsetHeight;
    const { scrollTop, clientHeight } = this.root; // only the table scrolls, never the page
    if (line.offsetTop - headings < scrollTop) this.root.scrollTop = line.offsetTop - headings;
    const overhang = line.offsetTop + line.offsetHeight - scrollTop - clientHeight;
    if (overhang > 0) this.root.scrollTop += overhang;
  }

  key(event) {
    const target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || !this.rows?.length) return;
    if (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName)) return;
    if (target.tagName === "BUTTON" || target.tagName === "A" || document.querySelector("[role=dialog]")) {
      if (event.key === "Enter") return; // it belongs to the focused control
    }
    if (event.key === "j" || event.key === "ArrowDown") this.mark(this.index + 1);
    else if (event.key === "k" || event.key === "ArrowUp") this.mark(this.index - 1);
    else if (event.key === "Enter") this.report("open", this.marked);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  let table = tables.get(parentElement);
  if (!table) tables.set(parentElement, (table = new CaseTable(parentElement)));
  table.show(data, setTriggerValue);
  return () => {
    table.destroy();
    tables.delete(parentElement);
  };
}
