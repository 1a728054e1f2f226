// SPDX-License-Identifier: MIT
// Draws the charts, and the loss along the segment between the pair that the reader chooses.
"use strict";

function read(id) {
  const element = document.getElementById(id);
  return element === null ? null : JSON.parse(element.textContent);
}

// No button may send a chart to plotly's servers.
const CONFIG = {
  displaylogo: false,
  responsive: true,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d"],
};
const LOOK = {
  template: "none",
  font: { family: "system-ui, sans-serif", size: 13 },
  margin: { l: 80, r: 20, t: 50, b: 50 },
  // At the foot of the whole chart, where no axis title can be.
  legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
  hovermode: "closest",
};

// Labels of a log axis: at 1, 2 and 5 over few decades, otherwise at powers of ten alone. plotly's
// own choice has labels at 5 to 9 that run into each other.
function decadeTicks(axis) {
  if (axis === undefined || axis.type !== "log" || axis.tickvals !== undefined) return axis;
  if (axis.range === undefined) return { ...axis, dtick: 1, minor: { dtick: "D1", ticks: "outside" } };
  const decades = Math.abs(axis.range[1] - axis.range[0]);
  if (decades <= 3) return { ...axis, dtick: "D2" };
  return { ...axis, dtick: decades > 8 ? 2 : 1 };
}

for (const [name, figure] of Object.entries(read("charts"))) {
  const { xaxis, yaxis } = figure.layout;
  const layout = { ...LOOK, ...figure.layout };
  layout.xaxis = decadeTicks(xaxis);
  layout.yaxis = decadeTicks(yaxis);
  Plotly.newPlot(`chart-${name}`, figure.data, layout, CONFIG);
}

function pairChooser(stored) {
  const group = document.getElementById("choose-setting");
  const pair = document.getElementById("choose-pair");
  const split = document.getElementById("choose-split");
  const log = document.getElementById("choose-log");
  const count = stored.alphas.length;

  function fill(select, names) {
    select.replaceChildren(...names.map((name, i) => new Option(name, i)));
  }

  function numbers(packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  function fillPairs() {
    const { pairs } = stored.groups[group.value];
    fill(pair, pairs.map(([a, b]) => `seeds ${a} and ${b}`));
  }

  function draw() {
    const { losses, accuracies } = stored.groups[group.value];
    const all = numbers(losses);
    const matchings = stored.looks.length;
    const heights = stored.groups[group.value].pairs[pair.value][2][split.value];
    const start = (Number(pair.value) * stored.splits.length + Number(split.value)) * matchings;
    const traces = stored.looks.map(([label, color, dash], i) => ({
      type: "scatter",
      mode: "lines",
      name: `${label}: barrier ${heights[i] === null ? "unknown" : Number(heights[i].toPrecision(3))}`,
      x: stored.alphas,
      y: Array.from(all.subarray((start + i) * count, (start + i + 1) * count)),
      line: { color, dash },
    }));
    // Losses at the ends may be rounding; on a log axis the barrier is what the chart is about.
    const tops = traces.map((trace) => Math.max(...trace.y)).filter((top) => top > 0);
    const low = Math.max(Math.min(...tops) / 100, 1e-14);
    const yaxis = { title: { text: `${stored.splits[split.value]} ${stored.unit}` } };
    if (log.checked && tops.length > 0) {
      yaxis.type = "log";
      yaxis.exponentformat = "power";
      const smallest = Math.min(...traces.flatMap((trace) => trace.y).filter((y) => y > 0));
      yaxis.range = [Math.log10(Math.max(low, smallest)) - 0.1, Math.log10(Math.max(...tops)) + 0.1];
    }
    const xaxis = { title: { text: "alpha (0: first seed, 1: second seed)", standoff: 8 }, automargin: true };
    Object.assign(yaxis, decadeTicks(yaxis));
    const layout = { ...LOOK, xaxis, yaxis };
    if (accuracies !== null) {
      // Below the losses, over the same alphas.
      const shares = numbers(accuracies);
      traces.push(...stored.looks.map(([label, color, dash], i) => ({
        type: "scatter",
        mode: "lines",
        name: label,
        showlegend: false,
        yaxis: "y2",
        x: stored.alphas,
        y: Array.from(shares.subarray((start + i) * count, (start + i + 1) * count)),
        line: { color, dash },
      })));
      yaxis.domain = [0.46, 1];
      xaxis.anchor = "y2";
      // Two panels need more room than the style sheet gives one.
      document.getElementById("chart-pair").style.height = "42rem";
      layout.yaxis2 = { domain: [0, 0.4], title: { text: `${stored.splits[split.value]} accuracy (%)` } };
    }
    Plotly.react("chart-pair", traces, layout, CONFIG);
  }

  fill(group, stored.groups.map(({ name }) => name));
  fill(split, stored.splits);
  split.value = stored.splits.length - 1;
  log.checked = stored.log;
  group.value = stored.first[0];
  fillPairs();
  pair.value = stored.first[1];
  group.addEventListener("change", () => { fillPairs(); draw(); });
  for (const control of [pair, split, log]) control.addEventListener("change", draw);
  draw();
}

const stored = read("curves");
if (stored !== null) pairChooser(stored);
document.body.dataset.drawn = "yes";
