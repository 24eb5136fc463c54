/** The processes of a run: who started whom, with what each of them took. */
import { html, useEffect } from "./vendor/preact.js";
import { folder, useGet } from "./api.js";
import { bare, length, money, short } from "./format.js";
import { State, Trouble, useCalm } from "./parts.js";
import { amend, to } from "./router.js";

/** @param {{ id: string, hear: any }} props */
export function Tree({ id, hear }) {
  const answer = useGet(`/api/runs/${id}/tree`);
  const again = useCalm(answer.again, 800, 0.1);
  useEffect(() => hear((data) => !data?.tokens && again(data?.total)), []);
  const lines = answer.data ? flat(answer.data) : [];
  return html`<section class="page" aria-label="Processes">
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${lines.length === 1 && html`<p class="dim">This run has started no processes. <code>weft.spawn</code> starts one.</p>`}
    ${answer.data?.cut && html`<p class="note">Only the first processes are shown.</p>`}
    ${
      lines.length > 0 &&
      html`<div class="sheet"><table>
      <thead><tr><th>Process</th><th>State</th><th class="num">Took</th><th class="num">Effects</th>
        <th class="num">Cost</th></tr></thead>
      <tbody>${lines.slice(0, 1000).map(
        ([one, depth]) => html`<tr key=${one.id}>
        <td style=${{ paddingLeft: `${10 + depth * 18}px` }}>${depth && !folder ? html`<a href=${to(["run", one.id])}>
          ${bare(one.workflow)}</a>` : bare(one.workflow)}
          <button class="plain mono dim" onClick=${() => amend({ effect: one.id })} title="Show it beside">…${one.id.slice(-6)}</button>
            </td>
        <td><${State} state=${one.state} /></td><td class="num">${length(one.seconds)}</td><td class="num">
          ${short(one.effects)}</td><td class="num">${one.money ? money(one.money) : "–"}</td></tr>`,
      )}
      </tbody></table></div>`
    }
    ${lines.length > 1000 && html`<p class="dim">${lines.length - 1000} more; find them in the timeline.</p>`}
  </section>`;
}

/** @param {any} node @param {number} [depth] @returns {[any, number][]} */
const flat = (node, depth = 0) => [[node, depth], ...node.children.flatMap((child) => flat(child, depth + 1))];
