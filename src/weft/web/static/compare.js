/** Two runs side by side, aligned by effect: where they part, and what differs after that. */
import { html } from "./vendor/preact.js";
import { useGet } from "./api.js";
import { bare, count, length, money, plural } from "./format.js";
import { Empty, State, Trouble } from "./parts.js";
import { amend, to } from "./router.js";
import { Body } from "./value.js";

/** @param {{ here: import("./router.js").Place }} props */
export function View({ here }) {
  const { a = "", b = "" } = here.query;
  const answer = useGet(a && b ? "/api/compare" : null, { a, b });
  const data = answer.data;
  const rows = data?.rows ?? [];
  return html`<div class="page">
    <div class="page-head"><h1>Compare</h1></div>
    <${Choose} a=${a} b=${b} />
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${!(a && b) && html`<${Empty} title="Two runs">Choose them above: a run and its fork, or two runs of one workflow.</${Empty}>`}
    ${data && html`<${Sums} a=${data.a} b=${data.b} />`}
    ${data?.same && html`<p class="note">The two runs did the same, with the same outcomes: ${plural(data.alike, "effect")}.</p>`}
    ${data && !data.same && html`<p class="dim">
      ${plural(data.alike, "effect")} alike, ${plural(data.rows.length, "difference")}${data.cut ? " and more" : ""}.</p>`}
    ${data?.first && html`<${First} first=${data.first} />`}
    ${
      rows.length > 0 &&
      html`<div class="sheet"><table class="diff"><thead><tr><th>What</th><th>First run</th><th>Second run</th></tr>
        </thead>
      <tbody>${rows.map((row) => html`<${Row} row=${row} />`)}</tbody></table></div>`
    }
  </div>`;
}

/** @param {{ a: string, b: string }} props */
function Choose({ a, b }) {
  const runs = useGet("/api/runs", { limit: 100 });
  const field = (name, value, words) => html`<label class="field grow"><span>${words}</span>
    <input list="known-runs" value=${value} placeholder="id of a run, or a part of it" onChange=${(e) => amend({ [name]: e.target.value.trim() })} />
      </label>`;
  return html`<div class="pair">
    ${field("a", a, "First run")}<button class="plain" title="Change places" aria-label="Change places" onClick=${() => amend({ a: b, b: a })}>⇄</button>
    ${field("b", b, "Second run")}
    <datalist id="known-runs">${(runs.data?.items ?? []).map((one) => html`<option value=${one.id}>
      ${bare(one.workflow)}, ${one.state}</option>`)}</datalist></div>`;
}

/** @param {{ a: any, b: any }} props */
function Sums({ a, b }) {
  /** @type {[string, (run: any) => any][]} */
  const lines = [
    ["State", (run) => html`<${State} state=${run.state} />`],
    ["Took", (run) => length(run.seconds)],
    ["Effects", (run) => count(run.effects)],
    ["Failed", (run) => count(run.failed)],
    ["Tokens", (run) => count((run.tokens_in ?? 0) + (run.tokens_out ?? 0))],
    ["Cost", (run) => money(run.money)],
  ];
  const head = (run) => html`<th><a href=${to(["run", run.id])}>${bare(run.workflow)} …${run.id.slice(-8)}</a></th>`;
  return html`<div class="sheet sums"><table><thead><tr><th></th>${head(a)}${head(b)}</tr></thead>
    <tbody>${lines.map(([name, say]) => html`<tr><td class="dim">${name}</td><td>${say(a)}</td><td>${say(b)}</td>
      </tr>`)}</tbody></table></div>`;
}

/** @param {{ first: any }} props */
function First({ first }) {
  return html`<section class="first"><h2>What changed first</h2><p>${first.why}</p>
    <div class="pair">${[first.a, first.b].map((row, n) => html`<div class="grow">
      ${row ? html`<${Outcome} id=${row.id} row=${row} />` : html`<p class="dim">
      ${n ? "The second" : "The first"} run has no such effect.</p>`}</div>`)}</div>
  </section>`;
}

/** @param {{ id: string, row: any }} props */
function Outcome({ id, row }) {
  const effect = useGet(id.includes(":") ? `/api/effects/${id}` : null);
  return html`<p><${Link} row=${row} /></p>${
    effect.data &&
    html`<${Body} title="Input" body=${effect.data.input} /><${Body} title="Output" body=${effect.data.output} />
    ${effect.data.error && html`<p class="note bad">${effect.data.error.type}: ${effect.data.error.message}</p>`}`
  }`;
}

/** @param {{ row: any }} props */
const Link = ({ row }) =>
  row
    ? html`<a class="mono" href=${to(["run", row.process ?? row.id.split(":")[0]], { effect: row.id })}>
      ${row.effect ?? ""} ${row.name || row.kind}</a> <span class=${row.status === "failed" ? "bad" : "dim"}>
      ${row.note ?? row.status}</span>`
    : html`<span class="dim">–</span>`;

/** @type {Record<string, string>} */
const KINDS = { only_a: "only in the first", only_b: "only in the second" };

/** @param {{ row: any }} props */
const Row = ({ row }) =>
  html`<tr class=${row.kind}><td class="nowrap">${KINDS[row.kind] ?? `another ${(row.what ?? []).join(", ")}`}</td>
    <td><${Link} row=${row.a} /></td><td><${Link} row=${row.b} /></td></tr>`;
