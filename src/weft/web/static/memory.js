/** Shared memory: namespaces, their cells, and all versions of a cell. */
import { html, useState } from "./vendor/preact.js";
import { get, useGet } from "./api.js";
import { bytes, count } from "./format.js";
import { Ago, Empty, Trouble } from "./parts.js";
import { to } from "./router.js";
import { Body } from "./value.js";

/** @param {{ here: import("./router.js").Place }} props */
export function View({ here }) {
  const { cell = "", version = "" } = here.query;
  const space = here.query.space ?? cell.split("/")[0] ?? "";
  const spaces = useGet("/api/memory");
  const items = spaces.data?.items ?? [];
  const chosen = space || items[0]?.namespace || "";
  return html`<div class="page">
    <div class="page-head"><h1>Memory</h1></div>
    <${Trouble} error=${spaces.error} again=${spaces.again} />
    ${spaces.data && !items.length && html`<${Empty} title="Nothing is shared yet" command=${'notes = weft.Memory("notes")\nawait notes.write("plan", "…")'}>Programs that share something keep it in a memory, with all of its versions:</${Empty}>`}
    ${
      items.length > 0 &&
      html`<div class="columns">
      <nav class="spaces" aria-label="Namespaces">
        ${items.map((one) => html`<a href=${to(["memory"], { space: one.namespace })} aria-current=${one.namespace === chosen ? "page" : null}>${one.namespace} <span class="dim">${count(one.cells)}</span>
        </a>`)}</nav>
      <div class="grow">
        ${cell ? html`<${History} cell=${cell} version=${version} />` : html`<${Namespace} key=${chosen} space=${chosen} />`}</div>
    </div>`
    }
  </div>`;
}

/** @param {string} path @param {Record<string, string>} query a page, and those after it as they are asked for */
function useList(path, query) {
  const first = useGet(path, query);
  const [more, put] = useState({ items: /** @type {any[]} */ ([]), next: undefined });
  const next = more.next === undefined ? first.data?.next : more.next;
  const load = async () => {
    const page = await get(path, { ...query, after: next });
    put({ items: [...more.items, ...page.items], next: page.next });
  };
  return { ...first, items: [...(first.data?.items ?? []), ...more.items], next, load };
}

/** @param {{ space: string }} props */
function Namespace({ space }) {
  const list = useList("/api/memory/cells", { namespace: space });
  return html`<${Trouble} error=${list.error} again=${list.again} />
    ${list.data && !list.items.length && html`<p class="dim">There are no cells in ${space}.</p>`}
    ${
      list.items.length > 0 &&
      html`<div class="sheet"><table><thead><tr><th>Cell</th><th class="num">Version</th><th class="num">Size</th>
        <th class="num">Written</th><th class="wide">By</th></tr></thead>
      <tbody>${list.items.map(
        (
          one,
        ) => html`<tr key=${one.cell}><td class="mono"><a href=${to(["memory"], { cell: one.cell })}>
          ${one.cell.slice(one.cell.indexOf("/") + 1)}</a>
          ${one.deleted ? html` <span class="dim">deleted</span>` : null}</td>
        <td class="num">${one.version}</td><td class="num">${bytes(one.bytes)}</td><td class="num">
          <${Ago} at=${one.updated} /></td><td class="wide"><${By} one=${one} /></td></tr>`,
      )}</tbody></table></div>`
    }
    ${list.next && html`<p><button onClick=${list.load}>More cells</button></p>`}`;
}

/** @param {{ one: any }} props */
const By = ({ one }) =>
  one.by
    ? html`<a href=${to(["run", one.by.split(":")[0]], { effect: one.by.includes(":") ? one.by : null })}>…${one.by.split(":")[0].slice(-8)}</a>`
    : html`<span class="dim">–</span>`;

/** @param {{ cell: string, version: string }} props */
function History({ cell, version }) {
  const list = useList("/api/memory/history", { cell });
  const shown = version || String(list.items[0]?.version ?? "");
  const value = useGet(shown ? "/api/memory/value" : null, { cell, version: shown });
  return html`<h2 class="mono cell">${cell}</h2>
    <${Trouble} error=${list.error} again=${list.again} />
    <div class="columns">
      <ol class="versions" aria-label="Versions">${list.items.map(
        (
          one,
        ) => html`<li key=${one.version}>
          <a href=${to(["memory"], { cell, version: one.version })} aria-current=${String(one.version) === shown ? "true" : null}>
        <b>${one.version}</b> <${Ago} at=${one.updated} /> <span class="dim">
          ${one.deleted ? "deleted" : bytes(one.bytes)}</span></a></li>`,
      )}
        ${list.next && html`<li><button onClick=${list.load}>Older</button></li>`}</ol>
      <div class="grow">
        <${Trouble} error=${value.error} again=${value.again} />
        ${value.data?.body && html`<${Body} title=${`Version ${shown}`} body=${value.data.body} />`}
        ${value.data && !value.data.body && html`<p class="note">
          ${value.data.deleted ? "The cell was deleted with this version." : `This version carries the label ${value.data.label}: it isn't shown here.`}</p>`}
        ${value.data?.by && html`<p class="dim">written by <${By} one=${value.data} /></p>`}
      </div>
    </div>`;
}
