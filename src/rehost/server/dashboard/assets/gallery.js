// The pictures: thumbnails, loaded when they scroll into view; the copy itself once a picture is opened.
import { action, say } from "./actions.js";
import { ask, query } from "./call.js";
import { el, outward } from "./dom.js";
import { advice, bytes, moment, number, plural, reason, reasonNames, text } from "./words.js";

const STATES = ["held", "wanted", "leased", "deferred", "refused"];
const A_PAGE = 60;
const DOTS = { held: "held", adopted: "held", unchanged: "held", overtaken: "wanted", deferred: "deferred", refused: "refused" };
const why = (error) => (error.status ? error.message : text("away"));
const at = (place, link) => `${place}/${link.copy_key.split("/").map(encodeURIComponent).join("/")}?v=${link.digest.slice(0, 16)}`;

export async function gallery(main, { source, values }) {
  const wall = el("div", { class: "wall" });
  const total = el("p", { class: "soft" });
  const more = el("button", { type: "button", class: "quiet more", hidden: true }, text("more"));
  const filters = await bar(source, values);
  main.replaceChildren(filters, total, wall, more);
  let after = 0;
  const load = async () => {
    more.disabled = true;
    try {
      const page = await ask("links", { source, state: values.state, reason: values.reason, origin: values.origin, text: values.text, rescued: values.rescued, after: after || null, limit: A_PAGE });
      if (page.total !== null) total.textContent = page.total ? plural("links", page.total) : "";
      wall.append(...page.links.map(card));
      if (!wall.childElementCount) wall.replaceChildren(el("p", { class: "soft" }, text("nothing")));
      after = page.next;
      more.hidden = page.next === null;
    } catch (error) {
      wall.append(el("p", { class: "soft" }, why(error)));
    }
    more.disabled = false;
  };
  more.addEventListener("click", load);
  await load();
}

async function bar(source, values) {
  const go = (change) => { location.hash = `#/gallery${query({ ...values, ...change })}`; };
  const known = (await ask("origins", { source }).catch(() => ({ origins: [] }))).origins;
  const origins = known.filter((each) => each.origin).map((each) => [each.origin, `${each.origin} (${number(each.present)})`]);
  if (values.origin && !origins.some(([origin]) => origin === values.origin)) origins.unshift([values.origin, values.origin]);
  const choice = (name, any, options) => el("select", { name, "aria-label": any, onchange: (event) => go({ [name]: event.target.value }) },
    el("option", { value: "" }, any), ...options.map(([value, label]) => el("option", { value, selected: values[name] === value }, label)));
  const search = el("input", { type: "search", name: "text", value: values.text || "", maxlength: 200, placeholder: text("search"), "aria-label": text("search") });
  search.addEventListener("change", () => go({ text: search.value }));
  const isOfReason = values.reason && !values.text && !values.origin && !values.state;
  const these = isOfReason ? action(text("retrythese"), "retry", () => ({ source, reason: values.reason }), (done) => text("did", done.changed)) : null;
  return el("div", { class: "filters", role: "search" }, search,
    choice("state", text("anystate"), STATES.map((each) => [each, text(each)])),
    choice("reason", text("anyreason"), reasonNames.map((each) => [each, reason(each)])),
    choice("origin", text("anyorigin"), origins), these);
}

function card({ title, link }) {
  const open = el("button", { type: "button", class: "tile", "data-key": link.row_key, onclick: () => sheet(link).catch((error) => say(why(error))) }, picture(link, title, true),
    el("span", { class: "name" }, title || link.row_key),
    el("span", { class: "soft" }, el("span", { class: `dot ${link.state}` }), title ? `${link.row_key} · ` : "", link.state === "held" ? bytes(link.size) : link.reason ? reason(link.reason) : text(link.state)));
  return open;
}

function picture(link, title, isLazy) {
  if (!link.copy_key) return el("span", { class: `hole ${link.state}` }, link.reason ? reason(link.reason) : text("nocopy"));
  const image = el("img", { src: at(isLazy ? "thumbs" : "copies", link), alt: title || link.row_key, width: link.width, height: link.height, loading: isLazy ? "lazy" : "eager", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "hole" }, text("unshown"))));
  return image;
}

async function sheet({ source, row_key, position }) {
  const dialog = document.getElementById("sheet");
  const { title, link, visits, history, alike } = await ask("link", { source, row_key, position });
  const fact = (name, value) => (value === null || value === undefined || value === "" ? [] : [el("dt", {}, text(name)), el("dd", {}, value)]);
  const failed = link.state === "deferred" || link.state === "refused";
  const retry = failed ? action(text("retry"), "retry", () => ({ source, row_key, position }), (done) => text("did", done.changed), () => dialog.close()) : null;
  const trouble = failed && link.reason
    ? el("div", { class: "trouble" }, el("b", {}, reason(link.reason)), " ", el("code", {}, link.reason), el("p", {}, text("cando", advice(link.reason)))) : null;
  const lines = events(visits, history, link.url);
  dialog.className = "";
  dialog.replaceChildren(
    el("div", { class: "stage" }, picture(link, title, false)),
    el("div", { class: "facts" },
      el("div", { class: "heading" }, el("h2", {}, title || row_key), el("button", { type: "button", class: "quiet", "aria-label": text("close"), onclick: () => dialog.close() }, "✕")),
      el("p", {}, el("span", { class: `dot ${link.state}` }), text(link.state)), trouble,
      el("dl", {}, ...fact("row", `${link.source} ${row_key}${position ? ` [${position}]` : ""}`), ...fact("link", outward(link.url)),
        ...fact("page", link.page_url && outward(link.page_url)), ...fact("local", link.local_url),
        ...fact("final", link.final_url && link.final_url !== link.url ? outward(link.final_url) : null),
        ...fact("dimensions", link.width && `${link.width} × ${link.height} · ${link.format}${link.frames > 1 ? ` · ${link.frames}` : ""}`),
        ...fact("damage", link.damage),
        ...fact("size", link.size === null ? null : bytes(link.size)), ...fact("digest", link.digest && el("code", {}, link.digest)),
        ...fact("alike", alike.length ? el("span", {}, ...alike.flatMap((each) => [el("a", { href: `#/gallery${query({ text: each.row_key })}`, onclick: () => dialog.close() },
          each.source === source ? each.row_key : `${each.source} ${each.row_key}`), " "])) : null),
        ...fact("saved", link.held_at && moment(link.held_at)), ...fact("visited", link.visited_at && moment(link.visited_at)),
        ...fact("verified", link.verified_at && moment(link.verified_at)), ...fact("rescued", link.rescued),
        ...fact("evidence", link.evidence), ...fact("nextat", failed ? moment(link.due_at) : null)),
      el("div", { class: "row" }, link.copy_key ? el("a", { class: "quiet", href: at("copies", link), target: "_blank", rel: "noopener" }, text("open")) : null, retry),
      el("h3", {}, text("history")), lines.length ? el("ul", { class: "history" }, ...lines) : el("p", { class: "soft" }, text("nohistory"))));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  if (!dialog.open) dialog.showModal();
}

// Visits and changes of the row as one list of events, the latest first.
function events(visits, history, now) {
  const of = (at, run, ...parts) => ({ at, line: el("li", {}, el("small", {}, `${moment(at)} · ${text("run")} ${run}`), ...parts) });
  const visited = visits.map((visit) => of(visit.last_at, visit.run,
    el("div", {}, el("span", { class: `dot ${DOTS[visit.outcome]}` }), visit.reason ? reason(visit.reason) : text(`end-${visit.outcome}`),
      visit.reason ? el("code", {}, ` ${visit.reason}`) : null),
    visit.times > 1 ? el("small", {}, text("times", number(visit.times), moment(visit.first_at))) : null,
    visit.evidence ? el("small", { class: "url" }, visit.evidence) : null,
    visit.url === now ? null : el("small", { class: "url" }, `${text("link")}: ${visit.url}`),
    visit.digest ? el("small", {}, el("code", {}, visit.digest.slice(0, 16))) : null));
  const written = history.map((change) => of(change.changed_at, change.run, el("div", {}, text("wrote")),
    el("small", { class: "url" }, `${change.before_url || "–"} → ${change.after_url || "–"}`)));
  return [...written, ...visited].sort((one, other) => new Date(other.at) - new Date(one.at)).map(({ line }) => line);
}
