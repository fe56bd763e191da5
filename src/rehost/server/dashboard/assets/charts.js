// The charts: uPlot (vendor/) draws the curve and the bars; the stacked bar is made of links.
/* global uPlot */
import { el } from "./dom.js";
import { clock } from "./words.js";

// A stacked bar; each part is a link to the pictures it counts.
export function stack(parts) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  const bar = el("div", { class: "stack" });
  for (const part of parts.filter((each) => each.value > 0)) {
    const piece = el("a", { class: `part ${part.name}`, href: part.href, title: `${part.label}: ${part.text}` });
    piece.style.flexGrow = String(Math.max(part.value / whole, 0.006));
    bar.append(piece);
  }
  return bar;
}

// A bar that shows value / most; the width is set through the style object, which the page's policy allows.
export function meter(value, most, kind = "") {
  const inner = el("span", { class: `fill ${kind}` });
  inner.style.width = `${value && most ? Math.max((100 * value) / most, 0.8) : 0}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, inner);
}

// A curve over the last minutes: [moments, values], moments in seconds since 1970. Colours come from the style sheet and
// follow its changes; the width is that of the element around it.
export function curve(label, written) {
  const place = el("div", { class: "curve", role: "img", "aria-label": label });
  const schemes = matchMedia("(prefers-color-scheme: dark)");
  let data = [[], []], chart = null;
  const make = () => {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: colour("--line"), width: 1 } };
    if (chart) chart.destroy();
    chart = new uPlot({
      width: place.clientWidth || 300, height: 150, padding: [8, 28, 0, 0], cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      legend: { show: false }, scales: { x: { range: (_, least, most) => [Math.min(least, most - 60), most] }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 20000)] } },
      axes: [{ ...axis, space: 70, gap: 8, incrs: [5, 10, 15, 30, 60, 120, 300], size: 32, grid: { show: false }, values: (_, moments) => moments.map(clock) },
        { ...axis, size: 62, space: 34, values: (_, values) => values.map(written) }],
      series: [{}, { stroke: colour("--held"), width: 2, fill: `color-mix(in srgb, ${colour("--held")} 14%, transparent)`, points: { show: false } }],
    }, data, place);
  };
  const size = new ResizeObserver(() => { if (chart) chart.setSize({ width: place.clientWidth, height: 150 }); else make(); });
  size.observe(place);
  schemes.addEventListener("change", make);
  return {
    place,
    draw: (moments, values) => { data = [moments, values]; if (chart) chart.setData(data); },
    end: () => { size.disconnect(); schemes.removeEventListener("change", make); if (chart) chart.destroy(); },
  };
}

// Horizontal bars behind the lines of a list, one per value, top down; each line is `line` pixels high.
export function bars(line, kind) {
  const place = el("div", { class: "bars", "aria-hidden": "true" });
  const schemes = matchMedia("(prefers-color-scheme: dark)");
  let values = [], chart = null;
  const make = () => {
    if (chart) chart.destroy();
    chart = null;
    if (!values.length || !place.clientWidth) return;
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const most = Math.max(...values), paths = uPlot.paths.bars({ size: [1, 6], radius: 0.5 });
    const drawn = { paths, width: 0, points: { show: false } };
    chart = new uPlot({
      width: place.clientWidth, height: values.length * line, padding: [0, 0, 0, 0],
      cursor: { show: false }, legend: { show: false }, select: { show: false },
      scales: { x: { time: false, ori: 1, dir: -1, range: [-0.5, values.length - 0.5] }, y: { ori: 0, dir: 1, range: [0, most] } },
      axes: [{ show: false }, { show: false }],
      series: [{}, { ...drawn, fill: colour("--hush") }, { ...drawn, fill: colour(kind) }],
    }, [values.map((_, index) => index + 0.5 - 5 / line), values.map(() => most), values.map((value) => Math.max(value, most / 120))], place);
  };
  const size = new ResizeObserver(make);
  size.observe(place);
  schemes.addEventListener("change", make);
  return {
    place,
    draw: (given) => { if (`${given}` !== `${values}`) { values = given; make(); } },
    end: () => { size.disconnect(); schemes.removeEventListener("change", make); if (chart) chart.destroy(); },
  };
}
