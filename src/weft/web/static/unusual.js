/** What is unusual in a run, by its journal and by earlier runs: each finding with the effects that show it. */
import { html, useState } from "./vendor/preact.js";
import { folder, useGet } from "./api.js";
import { plural } from "./format.js";
import { Trouble } from "./parts.js";
import { amend, to } from "./router.js";

const SHOWN = 4; // effects of a finding

/** Open where something went wrong, otherwise when it is asked for. @param {{ run: any }} props */
export function Unusual({ run }) {
  const [open, set] = useState(run.state === "failed");
  const answer = useGet(open ? `/api/runs/${run.id}/unusual` : null);
  const found = answer.data;
  return html`<details class="note unusual" open=${open} onToggle=${(event) => set(event.target.open)}>
    <summary>What is unusual</summary>
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${open && !found && !answer.error && html`<p class="dim" role="status">Comparing it with earlier runs …</p>`}
    ${found && html`<${Findings} found=${found} />`}
  </details>`;
}

/** @param {{ found: any }} props */
function Findings({ found }) {
  const { compared, failed, findings } = found;
  return html`<p class="dim">Compared with ${plural(compared, "earlier run", "earlier runs")} that ${compared === 1 ? "was" : "were"} done${failed ? ` and ${failed} that failed` : ""}.
      ${found.new_code ? " No earlier run had this code." : ""}${findings.length ? "" : " Nothing is unusual."}</p>
    <ol>${findings.map(
      (one) => html`<li key=${one.kind + one.effects[0]}>${one.words}
      ${one.more.map((more) => html`<div>${more}</div>`)}
      <div class="dim">${one.kind}; ${one.sureness}; ${one.effects.slice(0, SHOWN).map((id) => html`<${Shows} id=${id} kind=${one.kind} /> `)}
        ${one.effects.length > SHOWN ? `and ${one.effects.length - SHOWN} more` : ""}</div></li>`,
    )}</ol>`;
}

/** An effect beside the run, or another run. @param {{ id: string, kind: string }} props */
function Shows({ id, kind }) {
  const [run, number] = id.split(":");
  if (number) return html`<a href="#" onClick=${(e) => (e.preventDefault(), amend({ effect: id }))}>effect ${number}</a>`;
  const words = `run …${run.slice(-8)}`;
  return folder && kind === "before" ? html`<span>${words}</span>` : html`<a href=${to(["run", run])}>${words}</a>`;
}
