/** The small parts that all views are made of. */
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { ago, bare } from "./format.js";

/** @param {{ state: string, words?: string }} props */
export const State = ({ state, words = state }) => html`<span class=${`state ${state}`}>${words}</span>`;

/** A time as "3 min ago", the moment itself on hover; it goes on by itself. @param {{ at: number | null }} props */
export function Ago({ at }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 10000);
    return () => clearInterval(timer);
  }, []);
  return at
    ? html`<time title=${new Date(at * 1000).toISOString()}>${ago(at)}</time>`
    : html`<span class="dim">–</span>`;
}

/** A dotted name: what people call it, and where it is from. @param {{ name: string }} props */
export function Name({ name }) {
  const last = bare(name);
  return html`<span title=${name}><span class="dim">${name.slice(0, name.length - last.length)}</span>${last}</span>`;
}

/** What went wrong, and a way on. @param {{ error: Error | null, again?: () => void }} props */
export function Trouble({ error, again }) {
  if (!error) return null;
  return html`<div class="note bad" role="alert">
    <p>${error.message}</p>
    ${again && html`<p><button onClick=${again}>Try again</button></p>`}
  </div>`;
}

/** Nothing is here: what that means, and what to do. @param {{ title: string, command?: string, children?: any }} props */
export const Empty = ({ title, command, children }) =>
  html`<div class="empty"><h2>${title}</h2><p>${children}</p>${command && html`<pre>${command}</pre>`}</div>`;

/** @param {{ text: string, words?: string }} props */
export function Copy({ text, words = "Copy" }) {
  const [done, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => {});
    set(true);
    setTimeout(() => set(false), 1200);
  };
  return html`<button class="plain" onClick=${copy} title=${`Copy ${text}`}>${done ? "Copied" : words}</button>`;
}

/** A part whose code is fetched when it is first shown. @param {() => Promise<any>} load @param {string} name what it exports */
export function later(load, name) {
  /** @type {any} */
  let Part = null;
  return function Later(props) {
    const [error, fail] = useState(/** @type {Error | null} */ (null));
    const [, ready] = useState(Part !== null);
    useEffect(() => {
      if (!Part) load().then((module) => ((Part = module[name]), ready(true)), fail);
    }, []);
    return error
      ? html`<${Trouble} error=${error} again=${() => location.reload()} />`
      : Part && html`<${Part} ...${props} />`;
  };
}

/**
 * A question over the page. `go` does it; its error is shown in place, and the dialog stays.
 * @param {{ title: string, action: string, danger?: boolean, go: () => Promise<any>, close: () => void, children?: any }} props
 */
export function Dialog({ title, action, danger, go, close, children }) {
  const at = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [busy, setBusy] = useState(false);
  useEffect(() => at.current?.showModal(), []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await go();
      close();
    } catch (wrong) {
      setError(wrong);
      setBusy(false);
    }
  };
  return html`<dialog ref=${at} onClose=${close} aria-label=${title}>
    <form onSubmit=${submit}>
      <h1>${title}</h1>
      ${children}
      <${Trouble} error=${error} />
      <div class="buttons">
        <button type="button" class="plain" onClick=${() => at.current?.close()}>Leave it</button>
        <button class=${danger ? "danger" : "main"} disabled=${busy}>${busy ? "…" : action}</button>
      </div>
    </form>
  </dialog>`;
}

/** Call at most once in `ms`, the last time for certain; what is asked of a large run is asked less often: each
 * effect makes it wait another `each` ms. @param {() => void} call @param {number} ms @param {number} [each] */
export function useCalm(call, ms, each = 0) {
  const held = useRef({ call, timer: 0 }).current;
  held.call = call;
  useEffect(() => () => clearTimeout(held.timer), []);
  return useRef((effects = 0) => {
    if (held.timer) return;
    held.timer = setTimeout(
      () => {
        held.timer = 0;
        held.call();
      },
      ms + each * effects,
    );
  }).current;
}
