// The OpenAPI document in the folder of the page, as a page: every operation with its parameters, and a link to try those that only read.
import { el } from "./dom.js";

const main = document.getElementById("main");
const api = await (await fetch("openapi.json")).json();
main.append(el("p", { class: "lead" }, api.info.description || api.info.title));
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) main.append(section(path, method, operation));
}

function section(path, method, operation) {
  const place = path.slice(1);
  const name = method === "get" ? el("a", { href: place }, path) : path;
  const parameters = (operation.parameters || []).map((each) => el("tr", {},
    el("td", {}, el("code", {}, each.name)), el("td", {}, each.description),
    el("td", { class: "soft" }, each.required ? "required " : "", values(each.schema))));
  return el("section", { class: "card" },
    el("h2", {}, el("span", { class: `method ${method}` }, method.toUpperCase()), " ", el("code", {}, name)),
    el("p", {}, operation.summary, operation.security ? " Needs the token: Authorization: Bearer REHOST_TOKEN." : ""),
    parameters.length ? el("table", {}, el("tbody", {}, ...parameters)) : null);
}

// The values that a parameter may have; the default in parentheses.
function values(schema) {
  if (schema.$ref) return values(api.components.schemas[schema.$ref.split("/").pop()]);
  if (schema.enum) return schema.enum.join(" · ");
  if (schema.type === "integer" && schema.maximum !== undefined) {
    const most = schema.maximum > 1e9 ? "" : `–${schema.maximum}`;
    return `${schema.minimum}${most}${schema.default === undefined || schema.default > 1e9 ? "" : ` (${schema.default})`}`;
  }
  if (schema.type === "boolean") return `true · false (${schema.default})`;
  return "";
}
