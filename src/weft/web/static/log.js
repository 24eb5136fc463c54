/** The run as lines: one for each record of its journal, the newest last; it follows while one looks at the end. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { get } from "./api.js";
import { clock } from "./format.js";
import { Empty, Trouble, useCalm } from "./parts.js";
import { amend } from "./router.js";

const MOST = 3000; // lines that are kept in the page

/** @param {{ id: string, hear: any }} props */
export function Log({ id, hear }) {
  const [lines, setLines] = useState(/** @type {any[] | null} */ (null));
  const [error, fail] = useState(/** @type {Error | null} */ (null));
  const [level, setLevel] = useState("");
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const next = useRef(null);
  const end = useRef(true);
  const load = async () => {
    try {
      for (;;) {
        const after = next.current;
        const page = await get(`/api/runs/${id}/logs`, { limit: 500, ...(after === null ? { tail: 1 } : { after }) });
        const last = page.items[page.items.length - 1];
        if (last) next.current = page.next ?? last.seq;
        setLines((old) => [...(after === null ? [] : (old ?? [])), ...page.items].slice(-MOST));
        if (page.items.length < 500 || after === null) break;
      }
      fail(null);
    } catch (wrong) {
      fail(wrong);
    }
  };
  const again = useCalm(load, 250);
  useEffect(() => {
    next.current = null;
    load();
    return hear((data) => !data?.tokens && again());
  }, [id]);
  useLayoutEffect(() => {
    if (end.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, level]);
  const shown = (lines ?? []).filter(
    (line) => !level || line.level === level || (level === "warning" && line.level === "error"),
  );
  const scrolled = (event) =>
    (end.current = event.target.scrollTop + event.target.clientHeight > event.target.scrollHeight - 40);
  return html`<section class="log" aria-label="Log">
    <div class="bar-line">
      <select aria-label="Level" value=${level} onChange=${(e) => setLevel(e.target.value)}>
        <option value="">all lines</option><option value="warning">warnings and errors</option>
        <option value="error">errors</option></select>
    </div>
    <${Trouble} error=${error} again=${load} />
    ${lines && !shown.length && html`<${Empty} title="No lines">
      ${level ? "Nothing went wrong so far." : "Nothing has happened in this run yet."}</${Empty}>`}
    <div class="lines mono" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label="Lines">
      ${shown.map(
        (line) => html`<div key=${`${line.run}${line.seq}`} class=${`line ${line.level}`}>
        <span class="dim">${clock(line.at)}</span> ${
          line.effect
            ? html`<a href="#" onClick=${(e) => (e.preventDefault(), amend({ effect: typeof line.effect === "number" ? `${line.run}:${line.effect}` : line.effect }))}>
              ${String(line.effect).split(":").pop()}</a>`
            : html`<span class="dim">·</span>`
        } <span>${line.text.replace(`#${line.effect} `, "")}</span></div>`,
      )}
    </div>
  </section>`;
}
