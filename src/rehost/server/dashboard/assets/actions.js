// Buttons that act, the line of text that says what happened, and what the server allows.
import { act, token } from "./call.js";
import { el } from "./dom.js";
import { text } from "./words.js";

const toast = document.getElementById("toast");

export const server = { acts: false, version: "" }; // as api/server answers it
export const TOKEN_CHANGED = "rehost-token-changed"; // an event of document

export function say(words) {
  toast.textContent = words;
  toast.className = "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (toast.className = ""), 4000);
}

// A button that sends an action, says its result (unless `describe` is null), and goes on with it; null where the server or a missing token forbids actions.
export function action(label, path, values, describe, then = () => {}) {
  if (!server.acts || !token.get()) return null;
  const button = el("button", { class: "act", type: "button" }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const done = await act(path, values());
      if (describe) say(describe(done));
      then(done);
    } catch (error) {
      const isWrong = error.status === 401;
      if (isWrong) { token.set(""); document.dispatchEvent(new Event(TOKEN_CHANGED)); }
      say(isWrong ? text("wrongtoken") : error.message);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
