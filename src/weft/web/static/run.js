/** One run: what it is, what can be done to it, and its parts; beside them the effect that was chosen. */
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { folder, post, useGet } from "./api.js";
import { Question } from "./ask.js";
import { bare, count, length, money, plural, short } from "./format.js";
import { useKeys } from "./keys.js";
import { useLive } from "./live.js";
import { Ago, Copy, Dialog, later, State, Trouble, useCalm } from "./parts.js";
import { amend, go, to } from "./router.js";
import { Timeline } from "./timeline.js";

const Cells = later(() => import("./cells.js"), "Cells");
const Costs = later(() => import("./charts.js"), "Costs");
const Effect = later(() => import("./effect.js"), "Effect");
const Fork = later(() => import("./fork.js"), "Fork");
const Graph = later(() => import("./graph.js"), "Graph");
const Log = later(() => import("./log.js"), "Log");
const Tree = later(() => import("./tree.js"), "Tree");
const Unusual = later(() => import("./unusual.js"), "Unusual");

/** @type {[string, string][]} */
const TABS = [
  ["", "Timeline"],
  ["graph", "Graph"],
  ["log", "Log"],
  ["tree", "Processes"],
  ["memory", "Memory"],
  ["costs", "Costs"],
];
const ENDED = ["done", "failed", "cancelled", "killed", "moved"];

/** @param {{ here: import("./router.js").Place, server: any }} props */
export function View({ here, server }) {
  const id = here.path[1] ?? "";
  const { tab = "", effect = null, only = "" } = here.query;
  const run = useGet(`/api/runs/${id}`);
  const live = useRun(run, server);
  const data = run.data;
  useKeys(
    {
      Escape: () => (effect ? amend({ effect: null }) : go("#/runs")),
      ...Object.fromEntries(TABS.map(([key], n) => [String(n + 1), () => amend({ tab: key })])),
    },
    { "1 … 6": TABS.map(([, words]) => words.toLowerCase()).join(", "), Esc: "close, back" },
  );
  if (!data) return html`<div class="page"><${Trouble} error=${run.error} again=${run.again} /></div>`;
  return html`<div class="run">
    <${Head} run=${data} server=${server} again=${run.again} asks=${live.asks} effect=${effect} />
    <nav class="tabs" aria-label="Parts of the run">
      ${TABS.map(([key, words]) => html`<a href=${to(["run", id], { tab: key, effect })} aria-current=${tab === key ? "page" : null}>
        ${words}</a>`)}
    </nav>
    <div class=${`parts ${effect ? "beside" : ""}`}>
      <div class="part"><${Part} tab=${tab} run=${data} effect=${effect} only=${only} server=${server} live=${live} />
        </div>
      ${effect && html`<${Effect} key=${effect} id=${effect} run=${data} server=${server} hear=${live.hear} words=${live.words} close=${() => amend({ effect: null })} />`}
    </div>
  </div>`;
}

/** @param {{ tab: string, run: any, effect: string | null, only: string, server: any, live: any }} props */
function Part({ tab, run, effect, only, server, live }) {
  const id = run.id;
  switch (tab) {
    case "":
      return html`<${Timeline} id=${id} chosen=${effect} only=${only} live=${!over(run)} server=${server} hear=${live.hear} />`;
    case "graph":
      return html`<${Graph} id=${id} chosen=${effect} hear=${live.hear} />`;
    case "log":
      return html`<${Log} id=${id} hear=${live.hear} />`;
    case "tree":
      return html`<${Tree} id=${id} hear=${live.hear} />`;
    case "memory":
      return html`<${Cells} id=${id} />`;
    case "costs":
      return html`<${Costs} id=${id} run=${run} />`;
  }
  return html`<p class="empty">There is no such part of a run. <a href=${to(["run", id])}>Its timeline</a></p>`;
}

/** Whether nothing of it goes on any more. @param {any} run */
const over = (run) => ENDED.includes(run.state) && (run.total?.end ?? run.ended) !== null;

/** What happens to the run while it is looked at: one stream, which the parts hear. @param {any} run @param {any} server */
function useRun(run, server) {
  useEffect(() => {
    if (!run.data?.reading) return;
    const timer = setTimeout(run.again, 700);
    return () => clearTimeout(timer);
  }, [run.data]);
  const ears = useRef(/** @type {Set<(data: any) => void>} */ (new Set())).current;
  const words = useRef(
    /** @type {Map<string, { text: string, reasoning: string, done: boolean }>} */ (new Map()),
  ).current;
  const inbox = useGet(run.data && !folder && !over(run.data) ? "/api/inbox" : null, { run: run.data?.id });
  const [asks, ask] = useState(/** @type {any[] | null} */ (null));
  const again = useCalm(run.again, 700, 0.05);
  const tell = (data) => ears.forEach((ear) => ear(data));
  const began = useRef(false);
  useLive(run.data && !folder ? `/api/runs/${run.data.id}/live` : null, {
    hello: () => {
      if (began.current) tell(null); // it was away: whatever it missed follows, and what it can't know is read again
      began.current = true;
    },
    reset: () => (run.again(), tell(null)),
    spans: (data) => (tell(data), again(data.total)),
    run: (data) => run.put((old) => (old.id === data.id ? { ...old, ...data } : old)),
    inbox: ({ items }) => ask(items),
    tokens: (data) => {
      const before = data.restarted ? undefined : words.get(data.stream); // which generation it is may be known later
      const now = { text: before?.text ?? "", reasoning: before?.reasoning ?? "", done: data.done };
      now[data.reasoning ? "reasoning" : "text"] += data.text;
      for (const key of [data.stream, data.id]) if (key) words.set(key, now);
      tell({ tokens: data.id });
    },
    end: () => (run.again(), tell(null)),
  });
  const hear = useRef((ear) => (ears.add(ear), () => void ears.delete(ear))).current;
  const below = (one) => one.run === run.data?.id;
  return { hear, words, asks: over(run.data ?? { state: "" }) ? [] : (asks ?? inbox.data?.items.filter(below) ?? []) };
}

/** @param {{ run: any, server: any, again: () => void, asks: any[], effect: string | null }} props */
function Head({ run, server, again, asks, effect }) {
  const sum = run.total ?? run;
  const tokens = (sum.tokens_in ?? 0) + (sum.tokens_out ?? 0);
  return html`<header class="head">
    <div class="title">
      <h1>${bare(run.workflow)}</h1>
      <${State} state=${run.state} />
      <${Acts} run=${run} server=${server} again=${again} effect=${effect} />
    </div>
    <dl class="facts">
      <div class="wide"><dt>Run</dt><dd class="mono" title=${run.id}>
        ${run.id.length > 20 ? `…${run.id.slice(-12)}` : run.id} <${Copy} text=${run.id} /></dd></div>
      <div><dt>Began</dt><dd><${Ago} at=${run.started || run.created} /></dd></div>
      <div><dt>Took</dt><dd><${Took} run=${run} server=${server} /></dd></div>
      <div><dt>Effects</dt><dd>
        ${short(sum.effects)}${sum.failed ? html` <a class="bad" href=${to(["run", run.id], { only: "failed" })}>
        ${count(sum.failed)} failed</a>` : null}</dd></div>
      ${sum.processes > 1 && html`<div><dt>Processes</dt><dd>${count(sum.processes)}</dd></div>`}
      ${tokens > 0 && html`<div><dt>Tokens</dt>
        <dd title=${`${count(sum.tokens_in)} in, ${count(sum.tokens_out)} out`}>${short(tokens)}</dd></div>`}
      ${sum.money > 0 && html`<div><dt>Cost</dt><dd>${money(sum.money)}</dd></div>`}
      ${Object.entries(run.budget ?? {}).map(([name, one]) => html`<${Budget} key=${name} name=${name} one=${one} />`)}
      ${run.parent && html`<div><dt>Started by</dt><dd><a href=${to(["run", run.parent])}>…${run.parent.slice(-8)}</a>
        </dd></div>`}
      ${run.forked && html`<div><dt>Fork of</dt><dd>
        <a href=${to(["run", run.forked.split("@")[0]])}>…${run.forked.split("@")[0].slice(-8)}</a> <a class="dim" href=${to(["compare"], { a: run.forked.split("@")[0], b: run.id })}>compare</a>
        </dd></div>`}
    </dl>
    <${Notes} run=${run} asks=${asks} server=${server} />
  </header>`;
}

/** @param {{ run: any, server: any }} props */
function Took({ run, server }) {
  const [, tick] = useState(0);
  const going = run.ended === null && !ENDED.includes(run.state);
  useEffect(() => {
    if (!going) return;
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [going]);
  const now = Date.now() / 1000 + server.offset;
  return html`<span>${length(going ? Math.max(0, now - (run.started || run.created)) : run.seconds)}</span>`;
}

/** @param {{ name: string, one: any }} props */
function Budget({ name, one }) {
  if (one.limit == null) return null;
  const say = name === "money" ? money : short;
  const part = Math.min(1, one.spent / (one.limit || 1));
  return html`<div><dt>Budget: ${name}</dt><dd>
    <meter min="0" max="1" high="0.8" optimum="0" value=${part} aria-label=${`Budget of ${name}`}>
      </meter> ${say(one.spent)} of ${say(one.limit)}</dd></div>`;
}

/** What a reader should know first. @param {{ run: any, asks: any[], server: any }} props */
function Notes({ run, asks, server }) {
  return html`
    ${
      run.error &&
      run.state === "failed" &&
      html`<div class="note bad"><p><b>${run.error.type}</b> ${run.error.message}</p>
      ${run.traceback && html`<details><summary>Traceback</summary><pre>${run.traceback}</pre></details>`}</div>`
    }
    ${run.state === "interrupted" && html`<div class="note wait">Nobody executes this run now. What is in its journal is kept; Resume goes on from there. In a terminal: <code>weft resume ${run.id}</code>
      </div>`}
    ${asks.map((one) => html`<${Question} key=${one.id} one=${one} server=${server} within />`)}
    ${!run.partOf && html`<${Unusual} key=${`${run.id} ${run.state}`} run=${run} />`}
  `;
}

/** @param {{ run: any, server: any, again: () => void, effect: string | null }} props */
function Acts({ run, server, again, effect }) {
  const [open, show] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  if (folder || server.read_only) return null;
  const path = `/api/runs/${run.id}`;
  const now =
    (what, body = {}) =>
    () =>
      post(`${path}/${what}`, body).then(() => (setError(null), again()), setError);
  const ended = ENDED.includes(run.state);
  const close = () => show("");
  return html`<div class="acts">
    ${(run.state === "interrupted" || run.state === "paused") && html`<button class="main" onClick=${now("resume")}>Resume</button>`}
    ${["running", "waiting", "queued"].includes(run.state) && html`<button onClick=${now("signal", { what: "pause" })}>Pause</button>`}
    ${!ended && html`<button class="danger" onClick=${() => show("cancel")}>Cancel</button>`}
    <button onClick=${() => show("fork")}>Fork</button>
    ${error && html`<${Trouble} error=${error} />`}
    ${
      open === "cancel" &&
      html`<${Dialog} title="Cancel this run?" action="Cancel the run" danger close=${close} go=${async () => (await post(`${path}/cancel`), again())}>
      <p class="dim">The body gets a cancellation where it waits, and may clean up.${run.children ? ` ${plural(run.children, "child", "children")} of it end with it.` : ""} What happened stays in the journal.</p>
    </${Dialog}>`
    }
    ${open === "fork" && html`<${Fork} run=${run} at=${number(effect, run.id)} close=${close} />`}
  </div>`;
}

/** The number of an effect, if it is one of this run. @param {string | null} effect @param {string} run */
const number = (effect, run) => (effect?.startsWith(`${run}:`) ? Number(effect.slice(run.length + 1)) : null);
