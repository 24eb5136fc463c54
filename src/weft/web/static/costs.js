/** What all runs cost over time, by workflow or by model. */
import { html } from "./vendor/preact.js";
import { useGet } from "./api.js";
import { Columns } from "./charts.js";
import { count, money, short } from "./format.js";
import { Empty, Trouble } from "./parts.js";
import { amend } from "./router.js";

/** @type {[string, string, number, number][]} key, words, seconds, columns */
const SPANS = [
  ["1h", "last hour", 3600, 60],
  ["1d", "last day", 86400, 48],
  ["7d", "last week", 604800, 56],
  ["30d", "last month", 2592000, 60],
];

/** @param {{ here: import("./router.js").Place }} props */
export function View({ here }) {
  const { span = "1d", by = "workflow" } = here.query;
  const [, words, seconds, n] = SPANS.find(([key]) => key === span) ?? SPANS[1];
  const until = Math.ceil(Date.now() / 60000) * 60;
  const answer = useGet("/api/costs", { since: until - seconds, until, n, by });
  const buckets = answer.data?.buckets ?? [];
  const sum = (name) => buckets.reduce((all, one) => all + one[name], 0);
  return html`<div class="page">
    <div class="page-head"><h1>Costs</h1>
      <div class="chips" role="group" aria-label="By">
        ${["workflow", "model"].map((one) => html`<button aria-pressed=${String(by === one)} onClick=${() => amend({ by: one })}>by ${one}</button>`)}</div>
      <select aria-label="Time" value=${span} onChange=${(e) => amend({ span: e.target.value })}>
        ${SPANS.map(([key, say]) => html`<option value=${key}>${say}</option>`)}</select>
    </div>
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${answer.data?.partial && html`<p class="note">There are too many runs to add up all: these are the newest.</p>`}
    ${answer.data && !sum("money") && !sum("tokens_in") && html`<${Empty} title=${`Nothing was spent in the ${words}`}>Generations of models with a known price are counted here, by the time they ended.</${Empty}>`}
    ${
      answer.data &&
      (sum("money") > 0 || sum("tokens_in") > 0) &&
      html`
      <dl class="facts totals"><div><dt>Cost</dt><dd class="big">${money(sum("money"))}</dd></div><div><dt>Runs</dt>
        <dd class="big">${count(sum("runs"))}</dd></div>
        <div><dt>Tokens in</dt><dd class="big">${short(sum("tokens_in"))}</dd></div><div><dt>Tokens out</dt>
          <dd class="big">${short(sum("tokens_out"))}</dd></div></dl>
      <${Columns} buckets=${buckets} width=${answer.data.width} />`
    }
  </div>`;
}
