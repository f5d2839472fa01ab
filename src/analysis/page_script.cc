// SPDX-License-Identifier: Apache-2.0
#include "analysis/page_assets.h"

namespace gateskip {

// Values under the pointer. Text goes in as text, never as HTML.
const std::string_view kPageScript = R"js(
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (v, percent) =>
    v === null ? "not finite" : percent ? (100 * v).toFixed(1) + " %" : Number(v.toPrecision(4)).toLocaleString("en");
  const written = x => Number(x.toPrecision(10)).toLocaleString("en");
  const line = (tag, ...parts) => {
    const row = document.createElement(tag);
    for (const part of parts) row.append(Object.assign(document.createElement("span"), {textContent: part}));
    return row;
  };
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  };
  const all = [...document.querySelectorAll(".plot")].map(plot => ({
    root: plot,
    area: plot.querySelector(".area"),
    rule: plot.querySelector(".rule"),
    data: JSON.parse(plot.querySelector("script").textContent),
  }));
  const plots = all.filter(plot => plot.data.kind !== "points");
  const put = event => {
    tip.hidden = false;
    const right = event.clientX + 16 + tip.offsetWidth < innerWidth;
    tip.style.left = Math.max(4, right ? event.clientX + 14 : event.clientX - 14 - tip.offsetWidth) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)) + "px";
  };
  const place = (plot, x) => {
    const share = (x - plot.data.low) / (plot.data.high - plot.data.low);
    plot.rule.style.display = share >= 0 && share <= 1 ? "block" : "none";
    plot.rule.style.left = 100 * share + "%";
  };
  const lines = (data, x) => {
    const span = data.high - data.low;
    const all = data.series.filter(s => s.x.length).map(s => s.x[nearest(s.x, x)]);
    if (!all.length) return null;
    const at = all.reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
    const rows = [line("b", data.name + " " + written(at))];
    for (const s of data.series) {
      const i = s.x.length ? nearest(s.x, at) : -1;
      if (i >= 0 && Math.abs(s.x[i] - at) <= span / 150) rows.push(line("div", s.name, show(s.y[i], data.percent)));
    }
    for (const m of data.marks) if (Math.abs(m.x - at) <= span / 150) rows.push(line("div", m.text));
    return {at, rows};
  };
  const heat = (data, x, y) => {
    const row = Math.min(data.cells.length - 1, Math.max(0, Math.floor(y * data.cells.length)));
    let column = 0;
    while (column < data.edges.length - 2 && data.edges[column + 1] <= x) ++column;
    const value = data.cells[row][column];
    return {at: x, rows: [
      line("b", data.row + " " + row),
      line("div", data.name + "s", written(data.edges[column]) + "–" + written(data.edges[column + 1])),
      line("div", data.value, value < 0 ? "unknown" : value + " %"),
    ]};
  };
  const leave = () => {
    tip.hidden = true;
    for (const plot of plots) plot.rule.style.display = "none";
  };
  for (const plot of plots) {
    const move = event => {
      const box = plot.area.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const x = plot.data.low + share * (plot.data.high - plot.data.low);
      const found = plot.data.kind === "heat" ? heat(plot.data, x, (event.clientY - box.top) / box.height)
                                              : lines(plot.data, x);
      if (!found) return;
      for (const other of plots) if (other.data.name === plot.data.name) place(other, found.at);
      tip.replaceChildren(...found.rows);
      put(event);
    };
    plot.area.addEventListener("pointermove", move);
    plot.area.addEventListener("pointerdown", move);
    plot.area.addEventListener("pointerleave", leave);
  }
  // Points: the nearest one under the pointer speaks, and the other arms step back.
  for (const plot of all.filter(plot => plot.data.kind === "points")) {
    const parts = [...plot.root.querySelectorAll("[data-s]")];
    const dim = arm => {
      for (const part of parts) part.classList.toggle("dim", arm !== null && part.dataset.s !== arm);
      tip.hidden = arm === null;
    };
    const move = event => {
      const over = event.target.closest("[data-s]");
      const box = plot.area.getBoundingClientRect();
      let best = null, least = 28;
      for (const p of plot.data.points) {
        const far = Math.hypot(box.left + p.x * box.width - event.clientX, box.top + p.y * box.height - event.clientY);
        if (far < least) [best, least] = [p, far];
      }
      dim(best ? String(best.s) : over ? over.dataset.s : null);
      tip.hidden = !best;
      if (!best) return;
      tip.replaceChildren(line("b", best.name), ...best.facts.map(fact => line("div", ...fact)));
      put(event);
    };
    plot.area.addEventListener("pointermove", move);
    plot.area.addEventListener("pointerdown", move);
    plot.area.addEventListener("pointerleave", () => dim(null));
  }
})();
)js";

}  // namespace gateskip
