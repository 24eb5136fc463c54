/** A value as a tree that opens and closes; long texts and lists are shown in part until somebody asks for more. */
import { html, useState } from "./vendor/preact.js";
import { folder } from "./api.js";
import { bytes, plural } from "./format.js";
import { Copy } from "./parts.js";

const TEXT = 600; // characters of a text at first
const MANY = 50; // entries at first

/** A body as the API gives it. @param {{ title: string, body: any, href?: string }} props */
export function Body({ title, body, href }) {
  if (!body) return null;
  const whole = !folder && (body.href ?? href);
  return html`<section class="body">
    <div class="over"><h2>${title}</h2><span class="dim">${bytes(body.bytes)}</span>
      ${body.sealed && html`<span class="tag" title="A part of it is sealed: it is not shown here">sealed</span>`}
      ${!body.cut && html`<${Copy} text=${typeof body.value === "string" ? body.value : JSON.stringify(body.value, null, 2)} />`}</div>
    ${
      body.cut
        ? html`<pre class="text">${body.text}…</pre>
          <p class="dim">This is the beginning of ${bytes(body.bytes)}.${whole && html` <a href=${whole} target="_blank" rel="noopener">All of it</a>`}</p>`
        : html`<div class="value"><${Value} value=${body.value} open /></div>`
    }
  </section>`;
}

/** @param {{ value: any, name?: string | null, open?: boolean }} props */
export function Value({ value, name = null, open = false }) {
  const label = name === null ? null : html`<span class="key">${name}</span>`;
  if (value === null || typeof value !== "object")
    return html`<div class="leaf">${label}<${Leaf} value=${value} /></div>`;
  const list = Array.isArray(value);
  const entries = list ? value.map((one, n) => [String(n), one]) : Object.entries(value);
  if (!entries.length) return html`<div class="leaf">${label}<span class="dim">${list ? "[ ]" : "{ }"}</span></div>`;
  if (name === null) return html`<${Entries} entries=${entries} />`;
  return html`<details class="node" open=${open || entries.length <= 3}>
    <summary>${label}<span class="dim">
      ${list ? plural(entries.length, "item") : plural(entries.length, "field")}</span></summary>
    <${Entries} entries=${entries} />
  </details>`;
}

/** @param {{ entries: [string, any][] }} props */
function Entries({ entries }) {
  const [shown, show] = useState(MANY);
  return html`<div class="entries">
    ${entries.slice(0, shown).map(([key, one]) => html`<${Value} key=${key} name=${key} value=${one} />`)}
    ${entries.length > shown && html`<button class="plain" onClick=${() => show(shown + 500)}>
      ${plural(entries.length - shown, "more entry", "more entries")}</button>`}
  </div>`;
}

/** @param {{ value: any }} props */
function Leaf({ value }) {
  if (typeof value === "string") return html`<${Text} text=${value} quiet=${value === ""} />`;
  return html`<span class=${`atom ${value === null ? "dim" : ""}`}>${String(value)}</span>`;
}

/** @param {{ text: string, quiet?: boolean }} props */
export function Text({ text, quiet = false }) {
  const [all, showAll] = useState(false);
  if (quiet) return html`<span class="dim">empty text</span>`;
  const long = text.length > TEXT && !all;
  return html`<span class="string">${long ? text.slice(0, TEXT) : text}${
    long &&
    html`… <button class="plain" onClick=${() => showAll(true)}>
      ${plural(text.length - TEXT, "more character")}</button>`
  }</span>`;
}
