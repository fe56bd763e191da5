// The overview: pictures that show, the run in progress, the disk, the reasons, the origins, the runs.
import { action } from "./actions.js";
import { ask, query } from "./call.js";
import { bars, curve, meter, stack } from "./charts.js";
import { el, put } from "./dom.js";
import { grid } from "./tables.js";
import { advice, bytes, moment, number, percent, plural, reason, ruleText, span, text } from "./words.js";

const STATES = ["held", "leased", "wanted", "deferred", "refused"];
const at = (values) => `#/gallery${query(values)}`;

export async function overview(main, { source }) {
  const hero = el("section", { class: "hero" });
  const live = el("section", { class: "card" });
  const disk = el("section", { class: "card" });
  const why = el("section", { class: "card" });
  const where = el("section", { class: "card wide" });
  const past = el("section", { class: "card wide" });
  const notice = el("p", { class: "notice" });
  put(main, hero, notice, el("div", { class: "grid" }, live, disk, why, where, past));

  const refresh = async () => {
    const [standing, usage, known, listed, freezes] = await Promise.all([ask("standing", { source }), ask("usage"), allOrigins(source, pages), ask("runs", { source, limit: 200 }), ask("freezes")]);
    const waiting = freezes.filter((each) => !each.freeze.decision).length;
    put(notice, waiting ? el("a", { href: "#/upkeep" }, plural("freezesopen", waiting)) : null);
    showHero(hero, standing);
    showDisk(disk, usage);
    shown.show(standing);
    showOrigins(known);
    showRuns(listed);
  };
  let pages = 1;
  const more = () => { pages += 1; return refresh(); };
  const shown = reasons(why, source, refresh), showOrigins = origins(where, refresh, more), showRuns = runs(past);
  await refresh().catch(() => put(hero, el("p", { class: "lead" }, text("away"))));
  const timer = setInterval(() => refresh().catch(() => {}), 15000);
  const stream = watch(live, hero, source, refresh);
  return () => { clearInterval(timer); stream.close(); shown.end(); };
}

function showHero(hero, standing) {
  const present = Object.values(standing.states).reduce((sum, each) => sum + each, 0);
  const held = standing.states.held || 0;
  if (!present) return put(hero, el("p", { class: "lead" }, text("empty")));
  const parts = STATES.map((name) => ({
    name, value: standing.states[name] || 0, label: text(name), text: number(standing.states[name] || 0), href: at({ state: name }) }));
  const legend = parts.filter((part) => part.value).map((part) =>
    el("a", { href: part.href, class: "key" }, el("i", { class: part.name }), el("b", {}, part.text), " ", part.label));
  const wait = standing.next_due_seconds === null ? null : el("span", { class: "soft" }, text("next", span(standing.next_due_seconds)));
  return put(hero, 
    el("h1", {}, el("strong", {}, percent(held - standing.undisplayed, present)), " ", text("shows")),
    el("p", { class: "soft" }, `${number(held)} ${text("of")} ${plural("links", present)}`),
    standing.undisplayed ? el("p", { class: "soft" }, text("undisplayed", number(standing.undisplayed))) : null,
    standing.damaged ? el("p", { class: "soft" }, text("damaged", number(standing.damaged))) : null,
    stack(parts), el("div", { class: "legend" }, ...legend, wait));
}

function watch(card, hero, source, refresh) {
  const beats = [];
  const drawn = curve(text("speed"), (value) => `${bytes(value)}/s`);
  let was = false;
  const show = (beat) => {
    const left = Math.max(0, beat.present - beat.settled);
    const facts = beat.is_running || beat.rate > 0
      ? [figure(number(beat.rate), text("rate")), figure(`${bytes(beat.speed)}/s`, text("speed")),
        beat.seconds_left === null ? figure(number(left), text("linksleft")) : figure(span(beat.seconds_left), text("left"))]
      : [figure(number(left), text("due"))];
    put(card, 
      heading(text("live"), beat.is_stopping ? null : beat.is_running ? action(text("stop"), "stop", () => ({ run: beat.run }), () => text("didstop"))
        : action(text("start"), "run", () => ({ source }), () => text("didstart"))),
      el("p", { class: beat.is_running ? "pulse" : "soft" }, text(beat.is_stopping ? "stopping" : beat.is_running ? "running" : "idle")),
      el("div", { class: "figures" }, ...facts), drawn.place);
    showHero(hero, beat);
    drawn.draw(beats.map((each) => each.at), beats.map((each) => each.speed));
    if (was !== beat.is_running) refresh().catch(() => {});
    was = beat.is_running;
  };
  let stream = null;
  const open = () => {
    stream = new EventSource(`api/live${query({ source })}`);
    listen(stream);
  };
  // A browser reconnects by itself when a stream ends, but not after an error status.
  const listen = (stream) => {
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) timer = setTimeout(open, 5000); });
    stream.addEventListener("course", (event) => beats.splice(0, beats.length, ...JSON.parse(event.data)));
    stream.addEventListener("beat", (event) => {
      const beat = JSON.parse(event.data);
      if (!beats.length || beats[beats.length - 1].at < beat.at) beats.push(beat);
      if (beats.length > 240) beats.shift();
      show(beat);
    });
    stream.addEventListener("away", () => put(card, heading(text("live")), el("p", { class: "soft" }, text("away"))));
  };
  let timer = 0;
  open();
  return { close: () => { clearTimeout(timer); stream.close(); drawn.end(); } };
}

function showDisk(card, usage) {
  let until = text("growthless");
  if (usage.free_size === null) until = text("limitless");
  else if (usage.days_left !== null) until = usage.days_left > 3650 ? text("never") : text("full", span(usage.days_left * 86400));
  put(card, heading(text(usage.free_size === null ? "bucket" : "disk")),
    el("div", { class: "figures" }, figure(bytes(usage.held_size), text("taken")), usage.free_size === null ? null : figure(bytes(usage.free_size), text("free"))),
    usage.free_size === null ? null : meter(usage.total_size - usage.free_size, usage.total_size, usage.free_size < usage.total_size / 10 ? "refused" : "held"),
    el("p", { class: "soft" }, until),
    usage.expected_size ? el("p", { class: "soft" }, text("expected", bytes(usage.expected_size))) : null);
}

const LINE = 46; // height of a reason's line in pixels; style.css has the same

function reasons(card, source, refresh) {
  const drawn = bars(LINE, "--refused");
  const list = el("ul", { class: "reasons" });
  const whole = el("div", { class: "plot" }, drawn.place, list);
  const show = (standing) => {
    const counts = Object.entries(standing.reasons);
    const isWhole = standing.states.held > 0 && Object.entries(standing.states).every(([name, count]) => name === "held" || !count);
    put(list, ...counts.map(([name, count]) => el("li", { title: advice(name) },
      el("a", { href: at({ reason: name }) }, el("span", {}, reason(name)), el("code", {}, name), el("b", {}, number(count))))));
    const all = counts.length ? action(text("retryall"), "retry", () => ({ source, all: true }), (done) => text("did", done.changed), refresh) : null;
    put(card, heading(text("why"), all), counts.length ? whole : el("p", { class: "soft" }, text(isWhole ? "none" : "nofailure")));
    drawn.draw(counts.map(([, count]) => count));
  };
  return { show, end: drawn.end };
}

// The first pages of origins as one report; a page has a thousand hosts.
async function allOrigins(source, pages) {
  const report = await ask("origins", { source });
  for (let page = 1; page < pages && report.next !== null; page += 1) {
    const following = await ask("origins", { source, after: report.next });
    report.origins.push(...following.origins);
    report.next = following.next;
  }
  return report;
}

function origins(card, refresh, more) {
  const host = (origin) => ({ host: origin.host });
  const button = (origin) => (!origin.host ? null : origin.pause_seconds > 0
    ? action(text("resume"), "resume", () => host(origin), () => text("didresume", origin.host), refresh)
    : action(text("pause"), "pause", () => host(origin), () => text("didpause", origin.host), refresh));
  const state = (origin) => (origin.pause_seconds > 0 ? `${text("paused")} ${span(origin.pause_seconds)}` : text(origin.proven ? "calm" : "untried"));
  const dot = (origin) => (origin.pause_seconds > 0 ? "deferred" : origin.proven ? "held" : "wanted");
  const table = grid(text("origins"), [
    { id: "origin", label: text("origin"), value: (origin) => origin.origin,
      cell: (origin) => [origin.origin ? el("a", { href: at({ origin: origin.origin }), class: "url" }, origin.origin) : text("originless")] },
    { id: "held", label: text("held"), value: (origin) => origin.held,
      cell: (origin) => [`${number(origin.held)} ${text("of")} ${number(origin.present)}`, meter(origin.held, origin.present, "held")] },
    { id: "rule", label: text("rule"), value: (origin) => (origin.rule ? origin.rule.referer : undefined),
      cell: ({ rule, decoys }) => [rule ? el("span", { title: rule.evidence }, ruleText(rule.referer)) : "–", decoys ? el("small", {}, text("decoys", number(decoys))) : null] },
    { id: "state", label: text("state"), value: (origin) => origin.pause_seconds,
      cell: (origin) => [origin.host ? el("span", { class: "state" }, el("span", { class: `dot ${dot(origin)}` }), state(origin)) : "–",
        origin.pause_seconds > 0 && origin.pause_evidence ? el("small", {}, origin.pause_evidence) : null] },
    { id: "next", label: text("nextat"), value: (origin) => origin.next_due_seconds ?? undefined,
      cell: (origin) => [origin.next_due_seconds === null ? "–" : text("within", span(origin.next_due_seconds))] },
    { id: "act", label: "", end: true, cell: (origin) => [button(origin)] },
  ]);
  const left = (report) => (report.next === null ? null
    : el("button", { type: "button", class: "quiet more", onclick: more }, text("morehosts", number(report.total))));
  return (report) => { card.hidden = !report.origins.length; put(card, heading(text("origins")), table.place, left(report)); table.show(report.origins); };
}

function runs(card) {
  const end = (run) => (run.is_alive ? text("goingon") : run.ended_at === null ? text("killed") : run.stopped ? text("stopped") : run.interrupted ? text("interrupted") : span(run.seconds));
  const known = (value, written) => (value === null ? "…" : written(value));
  const table = grid(text("runs"), [
    { id: "run", label: text("began"), value: (run) => run.run, cell: (run) => [moment(run.started_at), el("small", {}, `#${run.run}${run.verb ? ` ${run.verb}` : ""} · ${run.os_user}@${run.host}`)] },
    { id: "took", label: text("took"), value: (run) => run.seconds ?? undefined, cell: (run) => [run.undone_at ? `${end(run)} · ${text("undone")}` : end(run)] },
    { id: "held", label: text("held"), value: (run) => run.held ?? undefined, cell: (run) => [known(run.held, number)] },
    { id: "failed", label: text("failed"), value: (run) => run.failed ?? undefined, cell: (run) => [known(run.failed, number)] },
    { id: "size", label: text("received"), value: (run) => run.size ?? undefined, end: true, cell: (run) => [known(run.size, bytes)] },
  ], 8);
  return (listed) => { put(card, heading(text("runs")), listed.length ? table.place : el("p", { class: "soft" }, text("empty"))); table.show(listed); };
}

const heading = (words, ...more) => el("div", { class: "heading" }, el("h2", {}, words), ...more);
const figure = (value, label) => el("div", {}, el("b", {}, value), el("span", {}, label));
