// Requests to the API; addresses are relative, so that the page works below any path.
import { language } from "./words.js";

const KEPT = "rehost-token";

const spoken = { Accept: "application/json", "Accept-Language": language === "zh" ? "zh-CN" : "en" };

export const token = {
  get: () => sessionStorage.getItem(KEPT) || "",
  set: (value) => (value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT)),
};

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

export async function ask(path, values = {}) {
  return read(await fetch(`api/${path}${query(values)}`, { headers: spoken }));
}

export async function act(path, values = {}) {
  const headers = { ...spoken, Authorization: `Bearer ${token.get()}` };
  return read(await fetch(`api/${path}${query(values)}`, { method: "POST", headers }));
}

async function read(response) {
  const answer = await response.json().catch(() => ({ detail: `${response.status}` }));
  if (!response.ok) throw Object.assign(new Error(answer.detail), { status: response.status });
  return answer;
}
