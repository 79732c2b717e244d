"use strict";
// No storage, no links within the page, nothing fetched: MLflow shows it in a sandbox.
(() => {
  const data = JSON.parse(document.getElementById("data")?.textContent || "{}");
  const trials = new Map((data.trials || []).map((each) => [String(each.number), each]));
  const all = (query, within = document) => [...within.querySelectorAll(query)];

  for (const button of all("nav button")) {
    button.addEventListener("click", () => {
      const target = document.getElementById(button.dataset.to);
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    });
  }

  // Tables: a click on a name sorts by it, another one the other way round.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      head.querySelector("button")?.addEventListener("click", () => {
        const first = head.dataset.first || "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const way = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        const rows = all("tbody tr", table).map((row) => [valueOf(row, column), row]);
        rows.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  const pareto = document.getElementById("pareto");
  pareto?.addEventListener("change", () => {
    for (const row of all("#leaderboard tbody tr")) {
      row.hidden = pareto.checked && !("pareto" in row.dataset);
    }
  });

  // A trial under the pointer, or with the focus, stands out everywhere.
  const tip = document.getElementById("tip");
  const marks = new Map();
  for (const mark of all("[data-trial]")) {
    const known = marks.get(mark.dataset.trial) || [];
    known.push(mark);
    marks.set(mark.dataset.trial, known);
  }
  let shown = null;
  const show = (number) => {
    if (number === shown) return;
    for (const mark of marks.get(shown) || []) mark.classList.remove("hot");
    shown = number;
    for (const mark of marks.get(number) || []) mark.classList.add("hot");
    const trial = trials.get(number);
    if (!tip) return;
    tip.hidden = !trial;
    if (!trial) return;
    const params = Object.entries(trial.params).map(([name, value]) => `${name} = ${value}`);
    tip.textContent = `Trial ${number}: ${trial.said}. ${params.join(", ")}`;
  };
  const under = (event) => event.target.closest?.("[data-trial]")?.dataset.trial ?? null;
  document.addEventListener("pointerover", (event) => show(under(event)));
  document.addEventListener("focusin", (event) => show(under(event)));
  document.addEventListener("keydown", (event) => event.key === "Escape" && show(null));

  // Parallel coordinates: what is dragged over on an axis is kept.
  for (const chart of all("svg.parallel")) {
    const lines = all("polyline", chart).map((line) => [
      line,
      line.getAttribute("points").split(" ").map((point) => Number(point.split(",")[1])),
    ]);
    const kept = new Map();
    const apply = () => {
      for (const [line, at] of lines) {
        const inside = [...kept].every(([axis, [low, high]]) => at[axis] >= low && at[axis] <= high);
        line.classList.toggle("out", !inside);
      }
    };
    const height = (event) => {
      const box = chart.getBoundingClientRect();
      return ((event.clientY - box.top) * chart.viewBox.baseVal.height) / box.height;
    };
    for (const axis of all(".brush", chart)) {
      const number = Number(axis.dataset.axis);
      const range = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      range.setAttribute("class", "kept");
      range.setAttribute("x", Number(axis.getAttribute("x")) + 4);
      range.setAttribute("width", 10);
      let from = null;
      axis.addEventListener("pointerdown", (event) => {
        from = height(event);
        axis.setPointerCapture(event.pointerId);
        kept.delete(number);
        range.remove();
        apply();
      });
      axis.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const ends = [from, height(event)].sort((a, b) => a - b);
        if (ends[1] - ends[0] < 3) return;
        range.setAttribute("y", ends[0]);
        range.setAttribute("height", ends[1] - ends[0]);
        chart.append(range);
        kept.set(number, ends);
        apply();
      });
      axis.addEventListener("pointerup", () => (from = null));
    }
  }
})();
