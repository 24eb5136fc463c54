/** The inbox: what runs ask of people, the oldest first. */
import { html, useState } from "./vendor/preact.js";
import { useGet } from "./api.js";
import { Question } from "./ask.js";
import { useKeys } from "./keys.js";
import { useLive } from "./live.js";
import { Empty, Trouble } from "./parts.js";
import { amend } from "./router.js";

/** @param {{ here: import("./router.js").Place, server: any }} props */
export function View({ here, server }) {
  const queue = here.query.queue ?? "";
  const list = useGet("/api/inbox");
  const [at, setAt] = useState(0);
  useLive("/api/live", { inbox: (data) => list.put(data), reset: list.again, hello: list.again });
  const all = list.data?.items ?? [];
  const queues = [...new Set(all.map((one) => one.queue))];
  const items = all.filter((one) => !queue || one.queue === queue);
  const move = (by) => {
    const next = Math.max(0, Math.min(items.length - 1, at + by));
    setAt(next);
    document.querySelector(`[data-id="${CSS.escape(items[next]?.id ?? "")}"]`)?.scrollIntoView({ block: "nearest" });
  };
  const press = (words) => () => {
    const found = document.querySelectorAll(".question.chosen button");
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (found))
      if (button.textContent === words) button.focus();
  };
  useKeys(
    {
      j: () => move(1),
      k: () => move(-1),
      a: press("Allow once"),
      d: press("Deny"),
      "/": () =>
        /** @type {any} */ (document.querySelector(".question.chosen input, .question.chosen textarea"))?.focus(),
    },
    { "j k": "next, previous question", "a d": "go to Allow once, Deny", "/": "go to the answer" },
  );
  return html`<div class="page narrow">
    <div class="page-head"><h1>Inbox</h1>
      ${
        queues.length > 1 &&
        html`<div class="chips" role="group" aria-label="Queue">
          <button aria-pressed=${String(!queue)} onClick=${() => amend({ queue: "" })}>all</button>
        ${queues.map((one) => html`<button aria-pressed=${String(queue === one)} onClick=${() => amend({ queue: one })}>
          ${one}</button>`)}</div>`
      }
    </div>
    <${Trouble} error=${list.error} again=${list.again} />
    ${list.data && !items.length && html`<${Empty} title="Nobody asks anything" command=${'ok = await weft.ask("Publish it?", bool)'}>Questions of runs, and what a policy wants approved, wait here for an answer.</${Empty}>`}
    ${items.map((one, n) => html`<${Question} key=${one.id} one=${one} server=${server} chosen=${n === at} />`)}
  </div>`;
}
