// Upkeep: what was verified, what was found, the origins that froze and their decision, takedowns, the trash.
import { action } from "./actions.js";
import { ask, query } from "./call.js";
import { meter } from "./charts.js";
import { el, outward, put } from "./dom.js";
import { grid } from "./tables.js";
import { bytes, finding, findingAdvice, mend, moment, number, percent, plural, reason, text } from "./words.js";

const at = (values) => `#/gallery${query(values)}`;
const thumb = (key, digest) => `thumbs/${key.split("/").map(encodeURIComponent).join("/")}?v=${digest.slice(0, 16)}`;

export async function upkeep(main, { source, values }) {
  const hero = el("section", { class: "hero" });
  const frozen = el("div", { class: "frozen" });
  const walk = el("section", { class: "card" }), trash = el("section", { class: "card" }), space = el("section", { class: "card" });
  const found = el("section", { class: "card wide" }), down = el("section", { class: "card wide" }), past = el("section", { class: "card wide" });
  put(main, hero, frozen, el("div", { class: "grid" }, walk, trash, space, found, down, past));
  const refresh = async () => {
    const [summary, parts, freezes, listed] = await Promise.all([ask("upkeep"), ask("trash"), ask("freezes"), ask("takedowns")]);
    showHero(hero, summary);
    showWalk(walk, summary);
    showTrash(trash, parts, summary);
    put(frozen, ...freezes.filter((each) => !each.freeze.decision).map((each) => freeze(each, refresh)));
    showDown(listed);
    showPast(freezes.map((each) => each.freeze).filter((each) => each.decision));
    await showFound(summary);
  };
  const showFound = findings(found, source, values), showDown = takedowns(down, refresh), showPast = decided(past, refresh);
  await refresh().catch(() => put(hero, el("p", { class: "lead" }, text("away"))));
  ask("storage").then((storage) => showSpace(space, storage)).catch(() => {});
  const timer = setInterval(() => { if (!main.contains(document.activeElement) || document.activeElement.tagName !== "INPUT") refresh().catch(() => {}); }, 30000);
  return () => clearInterval(timer);
}

function showHero(hero, summary) {
  if (!summary.held) return put(hero, el("p", { class: "lead" }, text("nocopies")));
  const waits = Object.values(summary.open_findings).reduce((sum, each) => sum + each, 0);
  const words = [waits ? plural("faultsopen", waits) : text("faultless"), summary.undecided_freezes ? plural("freezesopen", summary.undecided_freezes) : null];
  return put(hero,
    el("h1", {}, el("strong", {}, percent(summary.verified, summary.held)), " ", text("provenlately")),
    meter(summary.verified, summary.held, "held"),
    el("p", { class: "soft" }, [
      `${number(summary.verified)} ${text("of")} ${plural("copies", summary.held)}`,
      summary.never_verified ? plural("neverread", summary.never_verified) : summary.oldest_verified_at ? text("oldestread", moment(summary.oldest_verified_at)) : null,
    ].filter(Boolean).join(" · ")),
    el("p", {}, words.filter(Boolean).join(" · ")));
}

function showWalk(card, summary) {
  const [last] = summary.passes;
  if (!last) return put(card, heading(text("verification")), el("p", { class: "soft" }, text("nopass")), el("p", {}, el("code", {}, "rehost verify")));
  const isDone = Boolean(last.ended_at);
  return put(card, heading(text("verification")),
    el("p", { class: isDone ? "soft" : "" }, isDone ? text("passended", moment(last.began_at), moment(last.ended_at)) : text("passgoing", moment(last.began_at))),
    el("div", { class: "figures" }, figure(number(last.copies), text("copiesread")), figure(bytes(last.size), text("bytesread")), figure(number(last.found), text("faultsfound"))),
    isDone ? null : meter(last.copies, Math.max(last.copies, summary.held), "held"),
    isDone ? null : el("p", { class: "soft" }, text("passfar", percent(Math.min(last.copies, summary.held), summary.held))));
}

function showTrash(card, parts, summary) {
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  const lines = parts.filter((part) => part.files).map((part) => el("p", { class: "soft" },
    text(`trash-${part.cause}`, number(part.files), bytes(part.size), moment(part.oldest_at))));
  return put(card, heading(text("trash")),
    el("div", { class: "figures" }, figure(bytes(size), text("intrash")),
      el("div", {}, el("b", {}, summary.rescued ? el("a", { href: at({ rescued: "true" }) }, number(summary.rescued)) : "0"), el("span", {}, text("rescuedcopies")))),
    ...(lines.length ? lines : [el("p", { class: "soft" }, text("trashempty"))]));
}

function showSpace(card, storage) {
  const { copies, size, duplicates, hosts } = storage;
  return put(card, heading(text("space")),
    el("div", { class: "figures" }, figure(bytes(size), plural("copies", copies)), figure(bytes(storage.bytes_per_day), text("aday"))),
    duplicates.copies ? el("p", { class: "soft" }, text("duplicates", plural("copies", duplicates.copies), bytes(duplicates.size))) : null,
    ...hosts.slice(0, 5).map((each) => el("div", {}, el("small", { class: "url" }, `${each.name || "–"} · ${bytes(each.size)}`), meter(each.size, size || 1, "held"))));
}

// One frozen origin on one screen: before and after side by side, and its one decision.
function freeze({ freeze: frozen, copy_keys }, refresh) {
  const { origin } = frozen, host = origin.replace(/^\w+:\/\//, "");
  const decide = (verb) => action(text(`do-${verb}`), verb, () => ({ origin }), () => text(`did-${verb}`, origin), refresh);
  const buttons = ["keep", "accept"].map(decide).filter(Boolean);
  const commands = el("p", { class: "soft" }, text("decidehow"), " ", el("code", {}, `rehost origins --keep ${host}`), " ", text("or"), " ", el("code", {}, `rehost origins --accept ${host}`));
  return el("section", { class: "card freeze", "aria-label": text("frozenorigin", origin) },
    heading(text("frozenorigin", origin)),
    el("p", {}, text("frozensince", number(frozen.bad), number(frozen.answers), moment(frozen.frozen_at))),
    el("p", { class: "soft" }, kinds(frozen.evidence)),
    frozen.examples.length ? el("div", { class: "compare" }, el("h3", {}, text("isheld")), el("h3", {}, text("camein")), ...frozen.examples.flatMap((each, index) => example(each, copy_keys[index]))) : null,
    el("dl", { class: "choices" }, el("dt", {}, text("do-keep")), el("dd", {}, text("means-keep")), el("dt", {}, text("do-accept")), el("dd", {}, text("means-accept"))),
    buttons.length ? el("div", { class: "row" }, ...buttons) : commands);
}

function example(each, key) {
  const { held, came } = each;
  const figures = (picture) => [picture.width ? `${picture.width} × ${picture.height}` : null, bytes(picture.size)].filter(Boolean).join(" · ");
  const image = key ? el("img", { src: thumb(key, held.digest), alt: each.row_key, loading: "lazy", decoding: "async" }) : null;
  if (image) image.addEventListener("error", () => image.replaceWith(el("span", { class: "hole" }, text("unshown"))));
  return [
    el("div", { class: "side" }, image || el("span", { class: "hole" }, text("nocopy")),
      el("div", {}, el("b", {}, figures(held)), el("small", {}, el("a", { href: at({ text: each.row_key }) }, each.row_key), " ", outward(each.url)))),
    el("div", { class: "side" }, el("span", { class: "hole" }, came ? figures(came) : text("nopicture")),
      el("div", {}, el("b", {}, kindText(each.kind)), each.evidence ? el("small", {}, each.evidence) : null, came ? el("small", {}, el("code", {}, came.digest.slice(0, 16))) : null)),
  ];
}

// "smaller 3, gone 1" in words.
const kinds = (evidence) => evidence.split(", ").map((each) => each.replace(/^([a-z-]+) (\d+)$/, (_, kind, many) => `${kindText(kind)}: ${number(Number(many))}`)).join(" · ");
const kindText = (kind) => (["smaller", "same-picture"].includes(kind) ? text(`worse-${kind}`) : reason(kind));

function decided(card, refresh) {
  const other = { accept: "keep", keep: "accept" };
  const table = grid(text("decided"), [
    { id: "origin", label: text("origin"), value: (each) => each.origin, cell: (each) => [el("span", { class: "url" }, each.origin), el("small", {}, kinds(each.evidence))] },
    { id: "decision", label: text("decision"), value: (each) => each.decision, cell: (each) => [text(`decision-${each.decision}`)] },
    { id: "when", label: text("when"), value: (each) => each.decided_at, cell: (each) => [moment(each.decided_at)] },
    { id: "act", label: "", end: true, cell: (each) => [action(text(`do-${other[each.decision]}`), other[each.decision], () => ({ origin: each.origin }), () => text(`did-${other[each.decision]}`, each.origin), refresh)] },
  ]);
  return (listed) => { card.hidden = !listed.length; put(card, heading(text("decided")), table.place); table.show(listed); };
}

function findings(card, source, values) {
  const state = values.state === "mended" ? "mended" : "open";
  const kind = values.kind || "";
  const tab = (name, label) => el("a", { class: "quiet", href: `#/upkeep${query({ state: name === "open" ? "" : name })}`, "aria-current": state === name && !kind ? "true" : null }, label);
  const place = (each) => `${each.source} ${each.row_key}${each.position ? ` [${each.position}]` : ""}`;
  const table = grid(text("findings"), [
    { id: "kind", label: text("fault"), value: (each) => finding(each.kind), cell: (each) => [finding(each.kind), " ", el("code", { class: "soft" }, each.kind),
      el("small", {}, each.mended_at ? mend(each.mended_by) : findingAdvice(each.kind))] },
    { id: "place", label: text("row"), value: (each) => place(each), cell: (each) => [el("a", { href: at({ text: each.row_key }) }, place(each)), each.key ? el("small", { class: "url" }, each.key) : null] },
    { id: "evidence", label: text("evidence"), cell: (each) => [el("span", { class: "url" }, each.evidence)] },
    { id: "when", label: text(state === "mended" ? "mendedat" : "foundat"), value: (each) => each.mended_at || each.found_at, end: true,
      cell: (each) => [moment(each.mended_at || each.found_at), each.run ? el("small", {}, `${text("run")} ${each.run}`) : null] },
  ]);
  return async (summary) => {
    const listed = await ask("findings", { source, state, kind, limit: 1000 });
    const kinds = Object.entries(summary.open_findings).map(([name, many]) =>
      el("a", { class: "key", href: `#/upkeep${query({ kind: name })}`, "aria-current": kind === name ? "true" : null }, el("i", { class: "refused" }), el("b", {}, number(many)), " ", finding(name)));
    put(card, heading(text("findings"), el("span", { class: "row" }, tab("open", text("stillopen")), tab("mended", text("mendedones", number(summary.mended_findings))))),
      state === "open" && kinds.length > 1 ? el("div", { class: "legend" }, ...kinds) : null,
      listed.length ? table.place : el("p", { class: "soft" }, text(state === "open" ? "nofindings" : "nomends")));
    table.show(listed);
  };
}

function takedowns(card, refresh) {
  const input = el("input", { name: "what", maxlength: 2000, placeholder: text("takewhat"), "aria-label": text("takewhat") });
  const legal = el("input", { type: "checkbox", name: "legal" });
  const done = () => { input.value = ""; return refresh(); };
  const what = () => ({ what: input.value.trim() });
  const forget = action(text("takedown"), "forget/preview", what, null, (survey) => confirm(what(), legal.checked, survey, done));
  const form = forget ? el("div", { class: "filters takedown" }, input, el("label", {}, legal, " ", text("legal")), forget) : null;
  const status = (each) => (each.allowed_at ? text("takenback", moment(each.allowed_at)) : each.ended_at ? text("tookeffect", each.legal ? 451 : 410) : text("goesontakedown"));
  const table = grid(text("takedowns"), [
    { id: "what", label: text("what"), value: (each) => each.what, cell: (each) => [el("button", { type: "button", class: "plain url", onclick: () => receipt(each.takedown).catch(() => {}) }, each.what), el("small", {}, `#${each.takedown} · ${each.os_user}`)] },
    { id: "began", label: text("when"), value: (each) => each.takedown, cell: (each) => [moment(each.began_at)] },
    { id: "state", label: text("state"), value: status, cell: (each) => [status(each), each.left ? el("small", {}, plural("leftrows", each.left)) : null] },
    { id: "files", label: text("removed"), value: (each) => each.files, cell: (each) => [`${plural("files", each.files)} · ${bytes(each.size)}`, el("small", {}, plural("rowscleared", each.rows))] },
    { id: "act", label: "", end: true, cell: (each) => [each.allowed_at ? null : action(text("allow"), "allow", () => ({ takedown: each.takedown }), (done) => text("allowed", plural("links", done.changed)), refresh)] },
  ], 8);
  return (listed) => {
    if (!card.contains(input)) put(card, heading(text("takedowns")), el("p", { class: "soft" }, text("takedownsay")), form, table.place);
    table.place.hidden = !listed.length;
    table.show(listed);
  };
}

// What would be removed, and the button that removes it for good.
function confirm(what, legal, survey, done) {
  const dialog = document.getElementById("sheet");
  const remove = action(text("removeforgood"), "forget", () => ({ ...what, legal, sure: true }),
    ({ takedown }) => text("tookdown", plural("files", takedown.files), plural("rowscleared", takedown.rows)), () => { dialog.close(); return done(); });
  dialog.className = "small";
  put(dialog, el("h2", {}, text("takedown")), el("p", { class: "url" }, what.what),
    el("p", {}, text("wouldremove", plural("copies", survey.copies), bytes(survey.size))),
    survey.links ? el("p", {}, text("wouldrefuse", plural("links", survey.links))) : null,
    survey.files.length ? el("pre", {}, survey.files.slice(0, 20).map((each) => each.key).join("\n") + (survey.copies > 20 ? "\n…" : "")) : null,
    el("p", { class: "soft" }, text("forgood")),
    el("div", { class: "row" }, remove, el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, text("close"))));
  dialog.showModal();
}

async function receipt(takedown) {
  const dialog = document.getElementById("sheet");
  const found = await ask("takedown", { takedown });
  dialog.className = "receipt";
  put(dialog, el("div", { class: "facts" },
    el("div", { class: "heading" }, el("h2", {}, `${text("receipt")} #${takedown}`), el("button", { type: "button", class: "quiet", "aria-label": text("close"), onclick: () => dialog.close() }, "✕")),
    el("p", { class: "url" }, found.takedown.what),
    el("pre", {}, JSON.stringify(found.receipt, null, 2)),
    el("a", { class: "quiet", href: `api/takedown${query({ takedown })}`, target: "_blank", rel: "noopener" }, text("asjson"))));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.showModal();
}

const heading = (words, ...more) => el("div", { class: "heading" }, el("h2", {}, words), ...more);
const figure = (value, label) => el("div", {}, el("b", {}, value), el("span", {}, label));
