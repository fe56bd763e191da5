// Elements without markup: all content becomes text, never HTML.
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return put(node, ...children);
}

// Replace the children of a node; null and undefined are left out.
export function put(node, ...children) {
  node.replaceChildren(...children.filter((each) => each !== null && each !== undefined));
  return node;
}

// A link that leaves the page, for addresses from rows: only http and https can be followed.
export function outward(url) {
  if (!/^https?:\/\//i.test(url)) return el("span", { class: "url" }, url);
  return el("a", { class: "url", href: url, target: "_blank", rel: "noopener noreferrer" }, url);
}
