// The frame of the page: tabs, language, token, and which view is shown.
import { server, TOKEN_CHANGED } from "./actions.js";
import { ask, token } from "./call.js";
import { el } from "./dom.js";
import { gallery } from "./gallery.js";
import { overview } from "./overview.js";
import { upkeep } from "./upkeep.js";
import { language, switchLanguage, text } from "./words.js";

const main = document.getElementById("main");
const views = { "": overview, gallery, upkeep };
const state = { sources: [], source: "", leave: () => {} };

function address() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path, values: Object.fromEntries(new URLSearchParams(search)) };
}

function frame() {
  const { path } = address();
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  const tab = (name, label) => el("a", { href: `#/${name}`, "aria-current": path === name ? "page" : null }, label);
  document.getElementById("tabs").replaceChildren(tab("", text("overview")), tab("gallery", text("gallery")), tab("upkeep", text("upkeep")));
  const tools = [];
  if (state.sources.length > 1) {
    const choice = el("select", { "aria-label": text("source"), onchange: (event) => { state.source = event.target.value; show(); } },
      ...state.sources.map((each) => el("option", { value: each, selected: each === state.source }, each)));
    tools.push(choice);
  }
  if (server.acts) {
    const label = token.get() ? text("lock") : text("unlock");
    tools.push(el("button", { type: "button", class: "quiet", onclick: token.get() ? lock : unlock }, label));
  }
  tools.push(el("button", { type: "button", class: "quiet", id: "language", lang: language === "zh" ? "en" : "zh-CN", onclick: switchLanguage }, text("other")));
  document.getElementById("tools").replaceChildren(...tools);
  document.getElementById("footer").replaceChildren(
    el("span", {}, `rehost ${server.version}`), el("a", { href: "docs" }, text("api")),
    server.acts ? "" : el("span", {}, text("readonly")));
}

function lock() { token.set(""); show(); }

function unlock() {
  const sheet = document.getElementById("sheet");
  const input = el("input", { type: "password", autocomplete: "off", "aria-label": text("token"), required: true });
  const keep = () => { token.set(input.value.trim()); sheet.close(); show(); };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") keep(); });
  sheet.className = "small";
  sheet.replaceChildren(el("h2", {}, text("unlock")), el("p", { class: "soft" }, text("tokenask")), input,
    el("div", { class: "row" }, el("button", { type: "button", class: "act", onclick: keep }, text("save")),
      el("button", { type: "button", class: "quiet", onclick: () => sheet.close() }, text("close"))));
  sheet.showModal();
}

async function show() {
  state.leave();
  state.leave = () => {};
  frame();
  const { path, values } = address();
  document.title = `${text(views[path] && path ? path : "overview")} · rehost`;
  const place = el("div");
  main.replaceChildren(place);
  const leave = (await (views[path] || overview)(place, { source: state.source, values })) || (() => {});
  if (place.isConnected) state.leave = leave;
  else leave(); // another view was chosen while this one was loading
}

async function begin() {
  try {
    const response = await fetch("api/server");
    Object.assign(server, await response.json());
    state.sources = await ask("sources");
    state.source = state.sources[0];
    await show();
  } catch {
    frame();
    main.replaceChildren(el("p", { class: "lead" }, text("away")));
    setTimeout(begin, 5000);
  }
}

addEventListener("hashchange", show);
document.addEventListener(TOKEN_CHANGED, frame);
begin();
