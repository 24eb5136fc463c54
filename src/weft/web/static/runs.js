/** All runs: search, filters, and the list, which follows what happens. */
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { folder, get, useGet } from "./api.js";
import { bare, count, length, money, plural, short } from "./format.js";
import { useKeys } from "./keys.js";
import { useLive } from "./live.js";
import { Ago, Empty, Name, State, Trouble, useCalm } from "./parts.js";
import { amend, go, to } from "./router.js";

const STATES = ["running", "waiting", "queued", "paused", "interrupted", "done", "failed", "cancelled", "killed"];
/** @type {[string, string, number][]} */
const SINCE = [
  ["", "any time", 0],
  ["1h", "last hour", 3600],
  ["1d", "last day", 86400],
  ["7d", "last week", 604800],
];

/** @param {{ here: import("./router.js").Place, server: any }} props */
export function View({ here, server }) {
  const { q = "", state = "", workflow = "", since = "", cost = "", children = "" } = here.query;
  const states = state ? state.split(",") : [];
  const filtered = Boolean(q || state || workflow || since || cost);
  const back = SINCE.find(([key]) => key === since)?.[2] ?? 0;
  // whole minutes, so that the question stays the same from one drawing to the next
  const from = back ? Math.floor(Date.now() / 60000) * 60 - back : null;
  const query = { q, state: states, workflow, since: from, cost_over: cost, children: children || null };
  const list = useGet("/api/runs", query);
  const more = useMore(query, list.data);
  const rows = [...(list.data?.items ?? []), ...more.rows];
  const again = useCalm(list.again, 400);
  useLive("/api/live", {
    runs: ({ runs }) => {
      const known = new Map(runs.map((run) => [run.id, run]));
      const isNew = runs.some((run) => !rows.some((row) => row.id === run.id));
      list.put((data) => data && { ...data, items: data.items.map((row) => known.get(row.id) ?? row) });
      if (isNew || filtered) again();
    },
    reset: list.again,
    hello: list.again,
  });
  return html`<div class="page">
    <div class="page-head"><h1>Runs</h1></div>
    <${Filters} query=${here.query} states=${states} />
    <${Trouble} error=${list.error} again=${list.again} />
    ${list.data && !rows.length ? html`<${Nothing} filtered=${filtered} />` : null}
    ${rows.length > 0 && html`<${List} rows=${rows} now=${() => Date.now() / 1000 + server.offset} />`}
    ${more.next && html`<p class="more"><button onClick=${more.load}>
      ${list.data.partial ? "Search on" : "Older runs"}</button></p>`}
  </div>`;
}

/** The pages after the first one. @param {Record<string, any>} query @param {any} first */
function useMore(query, first) {
  const [held, hold] = useState({
    key: "",
    rows: /** @type {any[]} */ ([]),
    next: /** @type {string | null} */ (null),
  });
  const key = JSON.stringify(query);
  const mine = held.key === key ? held : { key, rows: [], next: first?.next ?? null };
  const load = async () => {
    const page = await get("/api/runs", { ...query, after: mine.next });
    hold({ key, rows: [...mine.rows, ...page.items], next: page.next });
  };
  return { rows: mine.rows, next: mine.next, load };
}

/** @param {{ query: Record<string, string>, states: string[] }} props */
function Filters({ query, states }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const typed = useRef(0);
  useKeys({ "/": () => field.current?.focus() }, { "/": "search" });
  useEffect(() => () => clearTimeout(typed.current), []);
  const [text, setText] = useState(query.q ?? "");
  const type = (event) => {
    const said = event.target.value;
    setText(said);
    clearTimeout(typed.current);
    typed.current = setTimeout(() => amend({ q: said.trim() }), 200);
  };
  const toggle = (one) =>
    amend({ state: (states.includes(one) ? states.filter((other) => other !== one) : [...states, one]).join(",") });
  const pick = (name) => (event) => amend({ [name]: event.target.value });
  return html`<search class="filters">
    <input ref=${field} type="search" placeholder="Search id, workflow or error" aria-label="Search runs" value=${text} onInput=${type} />
    <select aria-label="Began" value=${query.since ?? ""} onChange=${pick("since")}>
      ${SINCE.map(([value, words]) => html`<option value=${value}>${words}</option>`)}
    </select>
    <select aria-label="Cost" value=${query.cost ?? ""} onChange=${pick("cost")}>
      <option value="">any cost</option><option value="0.01">over $0.01</option>
        <option value="0.1">over $0.10</option><option value="1">over $1</option>
    </select>
    ${query.workflow && html`<button onClick=${() => amend({ workflow: "" })} title="All workflows">
      ${bare(query.workflow)} ✕</button>`}
    <label class="tick">
      <input type="checkbox" checked=${query.children === "1"} onChange=${(e) => amend({ children: e.target.checked ? "1" : "" })} /> runs started by runs</label>
    <div class="chips" role="group" aria-label="State">
      ${STATES.map((one) => html`<button aria-pressed=${String(states.includes(one))} onClick=${() => toggle(one)}>
        ${one}</button>`)}
    </div>
  </search>`;
}

/** @param {{ rows: any[], now: () => number }} props */
function List({ rows, now }) {
  const [at, setAt] = useState(-1);
  const body = useRef(/** @type {HTMLElement | null} */ (null));
  const move = (by) => {
    const next = Math.max(0, Math.min(rows.length - 1, at + by));
    setAt(next);
    body.current?.children[next]?.scrollIntoView({ block: "nearest" });
  };
  const open = (row) => row && go(to(["run", row.id]));
  useKeys(
    {
      j: () => move(1),
      k: () => move(-1),
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
      Enter: () => open(rows[at]),
      x: () => rows[at] && go(to(["compare"], { a: rows[at].id, b: rows[at].forked?.split("@")[0] })),
    },
    { "j k": "next, previous run", Enter: "open it", x: "compare it" },
  );
  return html`<div class="sheet"><table class="runs">
    <thead><tr><th>State</th><th>Workflow</th><th class="wide">Run</th><th>Began</th><th class="num">Took</th>
      <th class="num">Effects</th><th class="num wide">Tokens</th><th class="num wide">Cost</th></tr></thead>
    <tbody ref=${body}>
      ${rows.map((row, n) => html`<${Row} key=${row.id} row=${row} selected=${n === at} open=${open} now=${now} />`)}
    </tbody>
  </table></div>`;
}

/** @param {{ row: any, selected: boolean, open: (row: any) => void, now: () => number }} props */
function Row({ row, selected, open, now }) {
  const click = (event) => event.target.closest("a") || getSelection()?.toString() || open(row);
  const tokens = row.tokens_in == null ? null : row.tokens_in + row.tokens_out;
  return html`<tr aria-selected=${selected ? "true" : null} onClick=${click}>
    <td><${State} state=${row.state} /></td>
    <td class="what">
      <a href=${to(["run", row.id])}><${Name} name=${row.workflow} /></a>
      ${row.forked && html` <span class="dim">fork</span>`}
      ${row.error && row.state === "failed" && html`<div class="bad cut">
        ${row.error.type}: ${row.error.message}</div>`}
    </td>
    <td class="wide mono dim" title=${row.id}>…${row.id.slice(-8)}</td>
    <td class="nowrap"><${Ago} at=${row.created} /></td>
    <td class="num">${length(row.seconds ?? now() - (row.started || row.created))}</td>
    <td class="num" title=${row.effects == null ? "Not counted yet" : `${plural(row.effects, "effect")}, ${count(row.failed)} failed`}>
      ${short(row.effects)}</td>
    <td class="num wide">${tokens ? short(tokens) : html`<span class="dim">–</span>`}</td>
    <td class="num wide">${row.money ? money(row.money) : html`<span class="dim">–</span>`}</td>
  </tr>`;
}

/** @param {{ filtered: boolean }} props */
const Nothing = ({ filtered }) =>
  filtered
    ? html`<${Empty} title="No run fits">Take a filter away, or <a href="#/runs">show all runs</a>.</${Empty}>`
    : html`<${Empty} title=${folder ? "There is no run in this folder" : "Nothing has run yet"} command=${'weft run main.py \'{"topic": "tides"}\''}>
        Start a workflow with the same store, and it appears here while it runs:
      </${Empty}>`;
