// How things stand, at one glance: what shows, what a run does now, the disk, the reasons, the hosts, the runs.
import { action } from "./app.js";
import { ask, query } from "./call.js";
import { curve, meter, stack } from "./charts.js";
import { el, put } from "./dom.js";
import { advice, bytes, moment, number, percent, reason, ruleText, span, text } from "./words.js";

const STATES = ["held", "leased", "wanted", "deferred", "refused"];
const at = (values) => `#/gallery${query(values)}`;

export async function overview(main, { source }) {
  const hero = el("section", { class: "hero" });
  const live = el("section", { class: "card" });
  const disk = el("section", { class: "card" });
  const why = el("section", { class: "card" });
  const hosts = el("section", { class: "card wide" });
  const runs = el("section", { class: "card wide" });
  put(main, hero, el("div", { class: "grid" }, live, disk, why, hosts, runs));

  const refresh = async () => {
    const [standing, usage, listed, learned, journal] = await Promise.all([
      ask("standing", { source }), ask("usage"), ask("hosts", { source, limit: 100 }), ask("origins"), ask("runs", { source, limit: 8 })]);
    showHero(hero, standing);
    hosts.hidden = !listed.length;
    showDisk(disk, usage);
    showReasons(why, standing, source, refresh);
    showHosts(hosts, listed, learned, refresh);
    showRuns(runs, journal);
  };
  await refresh().catch(() => put(hero, el("p", { class: "lead" }, text("away"))));
  const timer = setInterval(() => refresh().catch(() => {}), 15000);
  const stream = watch(live, hero, source, refresh);
  return () => { clearInterval(timer); stream.close(); };
}

function showHero(hero, standing) {
  const present = Object.values(standing.states).reduce((sum, each) => sum + each, 0);
  const held = standing.states.held || 0;
  if (!present) return put(hero, el("p", { class: "lead" }, text("empty")));
  const parts = STATES.map((name) => ({
    name, value: standing.states[name] || 0, label: text(name), text: number(standing.states[name] || 0), href: at({ state: name }) }));
  const legend = parts.filter((part) => part.value).map((part) =>
    el("a", { href: part.href, class: "key" }, el("i", { class: part.name }), el("b", {}, part.text), " ", part.label));
  const wait = standing.next_due_seconds === null ? null : el("span", { class: "soft" }, `${text("next")} ${span(standing.next_due_seconds)}`);
  return put(hero, 
    el("h1", {}, el("strong", {}, percent(held, present)), " ", text("shows")),
    el("p", { class: "soft" }, `${number(held)} ${text("of")} ${number(present)} ${text("links")}`),
    stack(parts), el("div", { class: "legend" }, ...legend, wait));
}

function watch(card, hero, source, refresh) {
  const beats = [];
  const drawn = curve(text("speed"), (value) => `${bytes(value)}/s`);
  let was = false;
  const show = (beat) => {
    const left = Math.max(0, beat.present - beat.settled);
    const facts = beat.is_running || beat.rate > 0
      ? [figure(number(beat.rate), text("rate")), figure(bytes(beat.speed), text("speed")),
        figure(beat.seconds_left === null ? number(left) : span(beat.seconds_left), text("left"))]
      : [figure(number(left), text("due"))];
    put(card, 
      heading(text("live"), beat.is_running ? null : action(text("start"), "run", () => ({ source }), () => text("didstart"))),
      el("p", { class: beat.is_running ? "pulse" : "soft" }, beat.is_running ? text("running") : text("idle")),
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
  // A browser comes back by itself when a stream ends, but not after a refusal.
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
  if (usage.days_left !== null) until = usage.days_left > 3650 ? text("never") : `${text("full")} ${span(usage.days_left * 86400)}`;
  put(card, heading(text("disk")),
    el("div", { class: "figures" }, figure(bytes(usage.held_size), text("taken")), figure(bytes(usage.free_size), text("free"))),
    meter(usage.total_size - usage.free_size, usage.total_size, usage.free_size < usage.total_size / 10 ? "refused" : "held"),
    el("p", { class: "soft" }, until),
    usage.expected_size ? el("p", { class: "soft" }, text("expected", bytes(usage.expected_size))) : null);
}

function showReasons(card, standing, source, refresh) {
  const told = Object.entries(standing.reasons);
  const isWhole = standing.states.held > 0 && Object.entries(standing.states).every(([name, count]) => name === "held" || !count);
  const most = Math.max(...told.map(([, count]) => count), 1);
  const lines = told.map(([name, count]) => el("li", { title: advice(name) },
    el("a", { href: at({ reason: name }) }, el("span", {}, reason(name)), el("code", {}, name), el("b", {}, number(count)), meter(count, most, "refused"))));
  const all = told.length ? action(text("retryall"), "retry", () => ({ source }), (done) => text("did", done.changed), refresh) : null;
  put(card, heading(text("why"), all), told.length ? el("ul", { class: "reasons" }, ...lines) : el("p", { class: "soft" }, text(isWhole ? "none" : "nofailure")));
}

function showHosts(card, hosts, learned, refresh) {
  const name = (origin) => origin.replace(/^[a-z]+:\/\//, "").replace(/:\d+$/, "");
  const rules = new Map(learned.rules.map((rule) => [name(rule.origin), rule]));
  const decoys = new Map(Object.entries(learned.decoys).map(([origin, count]) => [name(origin), count]));
  const rows = hosts.map((host) => {
    const rule = rules.get(host.host);
    const paused = host.pause_seconds > 0;
    const standing = paused ? `${text("paused")} ${span(host.pause_seconds)}` : text(host.proven ? "calm" : "untried");
    const button = paused
      ? action(text("resume"), "resume", () => ({ host: host.host }), () => text("didresume", host.host), refresh)
      : action(text("pause"), "pause", () => ({ host: host.host }), () => text("didpause", host.host), refresh);
    return el("tr", {},
      el("td", {}, host.host ? el("a", { href: at({ host: host.host }), class: "url" }, host.host) : text("hostless"),
        el("small", {}, `${number(host.held)} ${text("of")} ${number(host.present)}`), meter(host.held, host.present, "held")),
      el("td", { title: rule ? rule.evidence : "" }, rule ? ruleText(rule.referer) : "–", decoys.has(host.host) ? el("small", {}, text("decoys", number(decoys.get(host.host)))) : null),
      el("td", { title: host.evidence || "" }, el("span", { class: "state" }, el("span", { class: `dot ${paused ? "deferred" : host.proven ? "held" : "wanted"}` }), standing),
        paused && host.evidence ? el("small", {}, host.evidence) : null,
        !paused && host.next_due_seconds !== null ? el("small", {}, `${text("next")} ${span(host.next_due_seconds)}`) : null), el("td", { class: "end" }, button));
  });
  put(card, heading(text("hosts")), table([text("host"), text("rule"), text("state"), ""], rows));
}

function showRuns(card, runs) {
  const rows = runs.map((run) => {
    let end = run.is_alive ? text("goingon") : run.ended_at === null ? text("killed") : run.interrupted ? text("interrupted") : span(run.seconds);
    if (run.undone_at) end += ` · ${text("undone")}`;
    return el("tr", {}, el("td", {}, moment(run.started_at), el("small", {}, `#${run.run} · ${run.os_user}@${run.host}`)), el("td", {}, end),
      el("td", {}, run.held === null ? "…" : `${number(run.held)} ${text("held")}`, run.failed ? el("small", {}, `${number(run.failed)} ${text("failed")}`) : null),
      el("td", { class: "end" }, run.size === null ? "…" : bytes(run.size)));
  });
  put(card, heading(text("runs")), rows.length ? table([text("began"), text("took"), text("outcome"), text("received")], rows) : el("p", { class: "soft" }, text("empty")));
}

const heading = (words, ...more) => el("div", { class: "heading" }, el("h2", {}, words), ...more);
const figure = (value, label) => el("div", {}, el("b", {}, value), el("span", {}, label));
const table = (heads, rows) => el("div", { class: "scroll" }, el("table", { class: "list" },
  el("thead", {}, el("tr", {}, ...heads.map((each, index) => el("th", { class: index && index === heads.length - 1 ? "end" : null }, each)))), el("tbody", {}, ...rows)));
