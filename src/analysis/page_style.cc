// SPDX-License-Identifier: Apache-2.0
#include "analysis/page_assets.h"

namespace gateskip {

// Colours: blue against orange, and one ramp of blue for what is ordered (budgets, shares). Both pairs keep their
// difference in lightness for every kind of colour blindness.
const std::string_view kPageStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --ink: #1a1d21; --muted: #5c656e; --hair: #e4e6e8; --ground: #f1f2f3;
  --blue: #1f66ad; --orange: #c8590a; --alarm: #b3261e;
  --cat0: #1f66ad; --cat1: #c8590a; --cat2: #1b7f4d; --cat3: #8a3fa8; --cat4: #b8174f; --cat5: #0d7f8a; --cat6: #7d5a20;
  --cat7: #68717a; --shade: 31 102 173;
  --ramp0: #74a9d8; --ramp1: #4b8dc9; --ramp2: #2f72b3; --ramp3: #1d5791; --ramp4: #123f6e; --ramp5: #0a2848;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e8eaec; --muted: #9aa3ac; --hair: #2c3136; --ground: #1c2024;
    --blue: #6cb0f0; --orange: #f0965a; --alarm: #ff8a80;
    --cat0: #6cb0f0; --cat1: #f0965a; --cat2: #62c48d; --cat3: #c99be6; --cat4: #f581a7; --cat5: #5ecbd3;
    --cat6: #d0ad70; --cat7: #a3acb5; --shade: 77 136 191;
    --ramp0: #3d6f9e; --ramp1: #4d88bf; --ramp2: #64a2da; --ramp3: #85bcec; --ramp4: #addaf8; --ramp5: #d9efff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1120px; margin: 0 auto; padding: 40px 32px 64px; }
h1 {
  font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; margin: 2px 0 0;
  overflow-wrap: anywhere;
}
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; margin: 56px 0 4px; }
h3 { font-size: 15px; font-weight: 600; margin: 0; }
p { margin: 0; }
.eyebrow, .lead { color: var(--muted); }
.lead { max-width: 68ch; margin-bottom: 20px; }
.tiles {
  display: flex; flex-wrap: wrap; gap: 16px 40px; margin: 28px 0 0; padding: 16px 0;
  border: solid var(--hair); border-width: 1px 0;
}
.tiles div { min-width: 84px; }
.tiles dt { color: var(--muted); font-size: 13px; }
.tiles dd { margin: 0; font-size: 22px; line-height: 1.3; font-weight: 600; white-space: nowrap; }
.tiles small { font-size: 13px; font-weight: 400; color: var(--muted); }
.grid {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 40px 48px;
  margin-top: 20px;
}
.split { display: flex; flex-wrap: wrap; gap: 32px 56px; margin-top: 20px; }
.split .table { max-width: 100%; margin-top: 0; }
.split figure { flex: 1 1 320px; }
figure { display: flex; flex-direction: column; margin: 0; min-width: 0; }
figcaption p { color: var(--muted); font-size: 13px; line-height: 1.45; }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; font-size: 13px;
}
.key {
  display: inline-block; vertical-align: middle; width: 18px; height: 0; margin-right: 6px;
  border-top: 2px solid currentColor;
}
.key.dashed { border-top-style: dashed; }
.key.dotted { border-top-style: dotted; }
.key.dots { width: 5px; height: 5px; border: 0; border-radius: 50%; background: currentColor; opacity: .55; }
.y-name { color: var(--muted); font-size: 12px; margin: auto 0 0; padding: 10px 0 8px; }
.plot { position: relative; height: 306px; touch-action: pan-y; }
.plot.heat { height: calc(clamp(160px, var(--rows) * 9px, 480px) + 46px); }
.area { position: absolute; inset: 0 8px 46px 48px; }
.ends .area { right: 72px; }
.plot.pareto { height: 420px; }
.named .area { right: 190px; }
.legend.narrow { display: none; }
svg { display: block; width: 100%; height: 100%; overflow: visible; }
svg path {
  fill: none; stroke: currentColor; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round;
}
svg .grid { stroke: var(--hair); stroke-width: 1; }
svg .line { stroke-width: 1.8; }
svg .dashed { stroke-dasharray: 5 4; stroke-width: 1.5; stroke-linecap: butt; }
svg .dots { stroke-width: 3; opacity: .28; }
svg .dotted { stroke-dasharray: 1 4; stroke-width: 1.5; }
svg .line.strong { stroke-width: 2.6; }
svg .bar { stroke-width: 1.2; opacity: .6; stroke-linecap: butt; }
svg .band { fill: var(--ink); stroke: none; opacity: .06; }
svg .zero { stroke: var(--muted); stroke-width: 1; opacity: .6; }
svg .thread { stroke-width: 1; opacity: .35; }
svg .points { stroke-width: 5.5; }
svg .note { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 1 4; }
svg .alarm { stroke: var(--alarm); stroke-width: 1; opacity: .8; }
svg .ground { fill: var(--ground); stroke: none; }
svg .cell { fill: var(--ramp4); stroke: none; shape-rendering: crispEdges; }
.area span { position: absolute; font-size: 12px; line-height: 16px; white-space: nowrap; }
.area .y, .area .x, .area .x-name { color: var(--muted); }
.area .y { right: calc(100% + 8px); transform: translateY(-50%); }
.area .x { top: calc(100% + 6px); transform: translateX(-50%); }
.area .x-name { top: calc(100% + 24px); right: 0; }
.area .end { left: calc(100% + 8px); transform: translateY(-50%); font-weight: 600; }
.named .end {
  font-weight: 500; font-size: 12.5px; left: calc(100% + 7px); max-width: 182px; overflow: hidden;
  text-overflow: ellipsis;
}
.named .end.c-cat0 { font-weight: 700; }
.mark {
  display: inline-block; width: 9px; height: 9px; background: currentColor; print-color-adjust: exact;
  -webkit-print-color-adjust: exact;
}
.legend .mark, td .mark { margin-right: 7px; }
.area .mark { position: absolute; margin: -4.5px 0 0 -4.5px; }
.area .mark.strong { transform: scale(1.25); }
.m0 { border-radius: 50%; }
.m1 { transform: scale(.9); }
.m2 { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); transform: scale(1.2); }
.m3 { clip-path: polygon(50% 4%, 100% 94%, 0 94%); transform: scale(1.2); }
.m4 { clip-path: polygon(0 6%, 100% 6%, 50% 96%); transform: scale(1.2); }
.m5 { border-radius: 50%; background: var(--paper); border: 2px solid currentColor; }
.m6 {
  clip-path: polygon(35% 0, 65% 0, 65% 35%, 100% 35%, 100% 65%, 65% 65%, 65% 100%, 35% 100%, 35% 65%, 0 65%, 0 35%,
    35% 35%);
  transform: rotate(45deg) scale(1.15);
}
.dim { opacity: .14 !important; }
.scale { display: flex; align-items: center; gap: 6px; margin-top: 6px; font-size: 13px; color: var(--muted); }
.scale span { font-size: 12px; }
.scale span:first-of-type { margin-left: 6px; }
.ramp { width: 96px; height: 10px; background: linear-gradient(90deg, var(--ground), var(--ramp4)); }
.rule {
  position: absolute; top: 0; bottom: 0; width: 1px; background: var(--muted); opacity: .6; display: none;
  pointer-events: none;
}
.tip {
  position: fixed; z-index: 1; pointer-events: none; padding: 8px 10px; border-radius: 6px; font-size: 12px;
  line-height: 1.5; background: var(--ink); color: var(--paper); white-space: nowrap;
}
.tip b { font-weight: 600; }
.tip div { display: flex; justify-content: space-between; gap: 16px; }
.none { color: var(--muted); font-size: 13px; padding: 24px 0; }
.c-ink { color: var(--ink); }
.c-muted { color: var(--muted); }
.c-blue { color: var(--blue); }
.c-orange { color: var(--orange); }
.c-cat0 { color: var(--cat0); }
.c-cat1 { color: var(--cat1); }
.c-cat2 { color: var(--cat2); }
.c-cat3 { color: var(--cat3); }
.c-cat4 { color: var(--cat4); }
.c-cat5 { color: var(--cat5); }
.c-cat6 { color: var(--cat6); }
.c-cat7 { color: var(--cat7); }
.c-ramp0 { color: var(--ramp0); }
.c-ramp1 { color: var(--ramp1); }
.c-ramp2 { color: var(--ramp2); }
.c-ramp3 { color: var(--ramp3); }
.c-ramp4 { color: var(--ramp4); }
.c-ramp5 { color: var(--ramp5); }
.tabs { display: flex; flex-wrap: wrap; margin-top: 16px; }
.tabs > input { position: absolute; opacity: 0; }
.tabs > label {
  order: 0; padding: 5px 12px; margin-right: 6px; border-radius: 14px; font-size: 13px; color: var(--muted);
  cursor: pointer;
}
.tabs > input:checked + label { background: var(--ground); color: var(--ink); font-weight: 600; }
.tabs > input:focus-visible + label { outline: 2px solid var(--blue); }
.panel { order: 1; width: 100%; display: none; padding-top: 14px; }
.tabs > input:checked + label + .panel { display: block; }
.table { overflow-x: auto; margin-top: 20px; }
td small, td.none { color: var(--muted); font-size: 12px; }
.reasons { margin: 10px 0 0; padding: 0 0 0 18px; color: var(--muted); font-size: 13px; }
table { border-collapse: collapse; font-size: 14px; }
th, td {
  padding: 7px 0 7px 26px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--hair);
  vertical-align: baseline;
}
th { color: var(--muted); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { padding-left: 0; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; }
td strong { font-weight: 650; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--muted); font-size: 14px; }
details .table { margin-top: 8px; }
.tokens {
  white-space: pre-wrap; overflow-wrap: anywhere; max-width: 92ch; line-height: 1.9; margin: 10px 0 28px;
}
.token, .shade { background: rgb(var(--shade) / calc(.62 * var(--s, 0))); border-radius: 2px; }
.token { padding: 2px 0; }
.token:hover { outline: 1px solid var(--ink); }
.shade { display: inline-block; min-width: 52px; padding: 0 6px; margin-right: -6px; }
.ramp.shades { background: linear-gradient(90deg, rgb(var(--shade) / 0), rgb(var(--shade) / .62)); }
.sample { margin: 16px 0 0; padding: 0 0 0 16px; border-left: 2px solid var(--hair); max-width: 76ch; }
.sample h3 { font-size: 13px; font-weight: 500; color: var(--muted); }
.sample p { white-space: pre-wrap; overflow-wrap: anywhere; }
.sample .prompt { color: var(--muted); }
footer { margin-top: 56px; padding-top: 16px; border-top: 1px solid var(--hair); color: var(--muted); font-size: 13px; }
code { font: 0.93em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 600px) {
  main { padding: 24px 16px 48px; }
  h1 { font-size: 25px; }
  h2 { margin-top: 44px; }
  .tiles { display: grid; grid-template-columns: 1fr 1fr; gap: 14px 16px; }
  .area { left: 42px; }
  .named .area { right: 8px; }
  .plot.pareto { height: 340px; }
  .named .end, svg .thread { display: none; }
  .legend.narrow { display: flex; }
  th, td { padding-left: 18px; }
}
@media print { main { max-width: none; } figure { break-inside: avoid; } }
)css";

}  // namespace gateskip
