// The few charts there are, as plain SVG: colours come from the style sheet.
import { el, svg } from "./dom.js";

// One bar of parts; each part is a link to what it counts.
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

// A bar of its own length; widths go through the style object, which the page's policy allows.
export function meter(value, most, kind = "") {
  const inner = el("span", { class: `fill ${kind}` });
  inner.style.width = `${most ? Math.max((100 * value) / most, 0.8) : 0}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, inner);
}

// A curve over the last minutes, from the oldest value to the newest.
export function curve(values, label) {
  const width = 600, height = 120, most = Math.max(...values, 1e-9);
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, index) => [index * step, height - 6 - (value / most) * (height - 14)]);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" L");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": label, preserveAspectRatio: "none" });
  for (const part of [0.25, 0.5, 0.75]) picture.append(svg("line", { x1: 0, x2: width, y1: height * part, y2: height * part, class: "grid" }));
  if (values.length > 1) {
    picture.append(svg("path", { d: `M0,${height} L${line} L${width},${height} Z`, class: "area" }), svg("path", { d: `M${line}`, class: "line" }));
  }
  return picture;
}
