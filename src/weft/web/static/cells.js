/** The cells of shared memory that a run read and wrote. */
import { html } from "./vendor/preact.js";
import { folder, useGet } from "./api.js";
import { count, moment } from "./format.js";
import { Empty, Trouble } from "./parts.js";
import { to } from "./router.js";

/** @param {{ id: string }} props */
export function Cells({ id }) {
  const answer = useGet(`/api/runs/${id}/memory`);
  const cells = answer.data?.cells ?? [];
  return html`<section class="page" aria-label="Memory">
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${answer.data && !cells.length && html`<${Empty} title="It has touched no shared memory" command=${'notes = weft.Memory("notes")'}>Runs that share something keep it in a memory; what they read and write is listed here.</${Empty}>`}
    ${
      cells.length > 0 &&
      html`<div class="sheet"><table>
      <thead><tr><th>Cell</th><th class="num">Reads</th><th class="num">Writes</th><th class="num">Last</th></tr>
        </thead>
      <tbody>${cells.map((one) => html`<tr><td class="mono">
        ${folder ? one.cell : html`<a href=${to(["memory"], one.cell.includes("/") ? { cell: one.cell } : { space: one.cell })}>${one.cell}</a>`}</td>
        <td class="num">${count(one.reads)}</td><td class="num">${count(one.writes)}</td><td class="num">
        ${moment(one.last)}</td></tr>`)}</tbody>
    </table></div>`
    }
  </section>`;
}
