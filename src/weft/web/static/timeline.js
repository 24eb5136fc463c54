/** A run in time: the strip, the waterfall, and how one moves in them. What is chosen stands in the address. */
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { address, get } from "./api.js";
import { Axis } from "./axis.js";
import { plural } from "./format.js";
import { useKeys } from "./keys.js";
import { Overview } from "./overview.js";
import { Pages } from "./pages.js";
import { Empty, Trouble, useCalm } from "./parts.js";
import { amend, place } from "./router.js";
import { Waterfall } from "./waterfall.js";

/** What the rows can be narrowed to. @type {Record<string, [string, Record<string, string>]>} */
const ONLY = {
  "": ["all effects", {}],
  failed: ["failed", { status: "failed" }],
  running: ["going on", { status: "running" }],
  waiting: ["waiting", { status: "waiting" }],
  generation: ["generations", { kind: "generation" }],
  tool: ["tools", { kind: "tool" }],
  step: ["steps", { kind: "step" }],
  process: ["processes", { kind: "process" }],
};

/** The parts that live outside of Preact, since they are drawn many times a second. */
class Scene {
  /** @param {string} run @param {number} offset of the server's clock @param {() => void} changed */
  constructor(run, offset, changed) {
    this.run = run;
    this.only = /** @type {Record<string, string>} */ ({});
    this.start = 0;
    this.end = /** @type {number | null} */ (null);
    this.now = () => Date.now() / 1000 + offset;
    this.axis = new Axis(0, 1);
    this.at = /** @type {number | null} */ (null); // the row that was chosen last
    this.buckets = null;
    this.rests = false;
    this.ready = Promise.resolve(); // the first rows are here
    this.timer = 0;
    this.timed = this.buckets; // those that the axis was made with
    this.changed = changed;
    this.pages = new Pages((from, count) => this.fetch(from, count), () => this.arrived());
    this.waterfall = /** @type {Waterfall | null} */ (null);
    this.overview = /** @type {Overview | null} */ (null);
  }

  /** @param {number} from @param {number} count */
  async fetch(from, count) {
    const answer = await get(`/api/runs/${this.run}/rows`, { ...this.only, from, count });
    this.start = answer.start ?? this.start;
    this.end = answer.end;
    if (answer.reading && !this.timer) this.timer = setTimeout(() => this.readOn(), 500);
    return answer;
  }

  /** The server is still reading the journals: what it has by now. */
  async readOn() {
    this.timer = 0;
    await this.pages.refresh(...(this.waterfall?.sight ?? [0, 0]));
    await this.count().catch(() => {});
  }

  arrived() {
    this.retime();
    this.changed();
  }

  /** The axis as long as the run is by now. */
  retime() {
    const to = this.end ?? this.now();
    if (this.axis.from !== this.start || this.axis.to !== to || this.timed !== this.buckets) {
      this.axis = new Axis(this.start, to, idle(this.buckets, to, this.rests)).follow(this.axis);
      this.timed = this.buckets;
    }
    for (const part of [this.waterfall, this.overview]) if (part) part.axis = this.axis;
    this.waterfall?.again();
    this.overview?.draw();
  }

  async count() {
    this.buckets = await get(`/api/runs/${this.run}/buckets`, { n: 200 });
    this.rests = this.end === null && !(await get(`/api/runs/${this.run}/rows`, { status: ["running", "retrying"], count: 1 })).total;
    if (this.overview) this.overview.data = this.buckets;
    this.retime();
  }

  /** @param {Record<string, string>} only */
  narrow(only) {
    if (address("", only) === address("", this.only)) return;
    this.only = only;
    this.pages.folds = [];
    this.pages.refresh(0, 0);
  }
}

/** Where nothing began and nothing was worked on. @param {any} data @param {number} to @param {boolean} rests nothing of it works now */
function idle(data, to, rests) {
  /** @type {import("./axis.js").Gap[]} */
  const gaps = [];
  data?.buckets.forEach((one, n) => {
    if (one.spans || one.busy > 0) return;
    const from = data.start + n * data.width;
    const last = gaps[gaps.length - 1];
    if (last && Math.abs(last.to - from) < data.width / 2) last.to = from + data.width;
    else gaps.push({ from, to: from + data.width });
  });
  if (rests && to > data?.end) gaps.push({ from: data.end, to });
  return gaps;
}

/**
 * @param {{ id: string, chosen: string | null, only: string, live: boolean, server: any, hear: (take: (data: any) => void) => () => void }} props
 * `hear`: be told of spans as they come
 */
export function Timeline({ id, chosen, only, live, server, hear }) {
  const stage = useRef(/** @type {HTMLElement | null} */ (null));
  const strip = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [, redraw] = useState(0);
  const scene = useRef(/** @type {Scene | null} */ (null));
  scene.current ??= new Scene(id, server.offset, () => redraw((n) => n + 1));
  const it = scene.current;
  const [following, follow] = useState(false);
  useStage(it, stage, strip);
  useFresh(it, hear, live, following);
  useEffect(() => it.narrow(ONLY[only]?.[1] ?? {}), [only]);
  useEffect(() => {
    if (!it.waterfall) return;
    it.waterfall.chosen = chosen;
    it.waterfall.again();
  }, [chosen]);
  useChosen(it, chosen);
  useMoves(it, () => follow((on) => !on));
  const { total, error } = it.pages;
  return html`<section class="timeline" aria-label="Timeline">
    <${Bar} it=${it} only=${only} following=${following} follow=${live ? follow : null} />
    <canvas class="strip" ref=${strip} aria-hidden="true"></canvas>
    <${Trouble} error=${error} again=${() => it.pages.refresh(0, 0)} />
    <div class="stage" ref=${stage}>
      ${total === 0 && !error && it.start > 0 && html`<${Empty} title="No effect fits">Choose “all effects” above.</${Empty}>`}
    </div>
  </section>`;
}

/** @param {{ it: Scene, only: string, following: boolean, follow: ((on: any) => void) | null }} props */
function Bar({ it, only, following, follow }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [missed, miss] = useState("");
  useKeys({ "/": () => field.current?.focus() }, { "/": "find" });
  useEffect(() => miss(""), [only]);
  const find = async (event) => {
    if (event.key !== "Enter") return;
    const text = event.target.value.trim();
    if (text) miss((await jump(it, { q: text }, event.shiftKey)) ? "" : `nothing says “${text}”`);
  };
  const zoom = (by) => () => (by ? it.axis.zoom(by) : it.axis.show(0, it.axis.size), it.retime());
  return html`<div class="bar-line">
    <input ref=${field} type="search" placeholder="Find an effect, Enter for the next" aria-label="Find an effect" onKeyDown=${find} onInput=${() => miss("")} />
    <select aria-label="Show" value=${only} onChange=${(e) => amend({ only: e.target.value })}>
      ${Object.entries(ONLY).map(([key, [words]]) => html`<option value=${key}>${words}</option>`)}
    </select>
    <span class="dim" role="status">${missed || (it.start ? plural(it.pages.total, "row") : "")}</span>
    <span class="zoom">
      ${follow && html`<label class="tick"><input type="checkbox" checked=${following} onChange=${(e) => follow(e.target.checked)} /> follow</label>`}
      <button class="plain" onClick=${zoom(1.6)} aria-label="Zoom out" title="Zoom out (-)">−</button>
      <button class="plain" onClick=${zoom(1 / 1.6)} aria-label="Zoom in" title="Zoom in (+), or Ctrl and the wheel">+</button>
      <button class="plain" onClick=${zoom(0)} title="All of it (0)">All</button>
    </span>
  </div>`;
}

/** Put the drawn parts into the page. @param {Scene} it @param {any} stage @param {any} strip */
function useStage(it, stage, strip) {
  useEffect(() => {
    const moved = () => it.retime();
    const choose = (row) => amend({ effect: row.id });
    it.waterfall = new Waterfall(stage.current, { pages: it.pages, axis: it.axis, now: it.now, choose, moved });
    it.overview = new Overview(strip.current, { axis: it.axis, moved });
    it.ready = it.pages.refresh(0, 0);
    it.ready.then(() => it.count()).catch(() => {});
    return () => {
      clearTimeout(it.timer);
      it.waterfall?.close();
      it.overview?.close();
    };
  }, []);
}

/** What comes while it is shown. Rows that are here are changed in place; where new ones came, those in sight are read
 * again. @param {Scene} it @param {any} hear @param {boolean} live @param {boolean} following */
function useFresh(it, hear, live, following) {
  const down = useRef(following);
  down.current = following;
  const again = useCalm(async () => {
    const [from, to] = it.waterfall?.sight ?? [0, 0];
    if (it.pages.folds.length) await refold(it);
    await it.pages.refresh(from - 50, to + 50);
    if (down.current) it.waterfall?.reveal(it.pages.total - 1);
  }, 60);
  const recount = useCalm(() => it.count().catch(() => {}), 1500, 0.2);
  useEffect(
    () =>
      hear((data) => {
        if (data?.tokens) return;
        recount(it.pages.total);
        if (!data || data.more || Object.keys(it.only).length) return again();
        if (data.total !== it.pages.total && !(out(it, data.spans) && !down.current)) return again();
        it.pages.grow(data.total);
        it.end = data.end;
        const changed = new Map(data.spans.map((row) => [row.id, row]));
        for (const rows of it.pages.pages.values())
          rows.forEach((row, n) => changed.has(row.id) && (rows[n] = { ...row, ...changed.get(row.id), index: row.index }));
        it.arrived();
      }),
    [],
  );
  useEffect(() => {
    if (!live) return;
    const timer = setInterval(() => it.end === null && it.retime(), 200);
    return () => clearInterval(timer);
  }, [live]);
}

/** Whether all new rows come after those in sight, and so can wait. @param {Scene} it @param {any[]} spans */
function out(it, spans) {
  const last = it.waterfall?.sight[1] ?? 0;
  return last < it.pages.total - 1 && spans.every((row) => row.depth === 1 || it.pages.where(row.id) >= 0);
}

/** Where the folded rows are now. @param {Scene} it */
async function refold(it) {
  const found = await Promise.all(
    it.pages.folds.slice(0, 20).map(async ({ id }) => (await get(`/api/runs/${it.run}/rows`, { at: id, count: 1 })).rows.find((row) => row.id === id)),
  );
  it.pages.folds = found.filter(Boolean).map((row) => ({ at: row.index, below: row.below, id: row.id })).sort((a, b) => a.at - b.at);
}

/** A place that names an effect shows it. @param {Scene} it @param {string | null} chosen */
function useChosen(it, chosen) {
  const seen = useRef(/** @type {string | null} */ (null));
  useEffect(() => {
    if (!chosen || seen.current === chosen) return;
    seen.current = chosen;
    it.ready.then(async () => {
      const here = it.pages.where(chosen);
      const found = here >= 0 ? here : (await get(`/api/runs/${it.run}/rows`, { at: chosen, count: 1 })).found;
      if (found != null) it.waterfall?.reveal(found);
    }).catch(() => {}); // the panel says what is wrong with it
  }, [chosen]);
}

/** Choose the next row that fits. @param {Scene} it @param {Record<string, string>} what @param {boolean} back */
async function jump(it, what, back) {
  const from = it.at ?? -1;
  const { index, id } = await get(`/api/runs/${it.run}/find`, { ...what, from: Math.max(0, back ? from - 1 : from + 1), back: back ? 1 : null });
  if (index == null) return false;
  it.at = index;
  for (const fold of it.pages.outer()) if (index > fold.at && index <= fold.at + fold.below) it.pages.toggle(fold.at);
  it.waterfall?.reveal(index);
  amend({ effect: id });
  return true;
}

/** @param {Scene} it @param {() => void} follow */
function useMoves(it, follow) {
  const spot = () => it.pages.where(place().query.effect ?? null);
  const select = (index) => {
    const row = it.pages.row(index);
    it.at = index;
    it.waterfall?.reveal(index);
    if (row) amend({ effect: row.id });
  };
  const step = (by) => {
    const at = spot();
    const n = at < 0 ? it.pages.nth(it.waterfall?.sight[0] ?? 0) - (by > 0 ? 1 : 0) : it.pages.nth(at);
    select(it.pages.index(Math.max(0, Math.min(it.pages.shown - 1, n + by))));
  };
  const fold = (close) => {
    const at = spot();
    const row = at >= 0 ? it.pages.row(at) : null;
    if (row && row.below && it.pages.folded(at) !== close) return it.pages.toggle(at);
    if (!row || !close) return;
    for (let up = at - 1; up >= 0; up--) {
      const above = it.pages.row(up);
      if (!above || above.depth < row.depth) return above && select(up);
    }
  };
  const zoom = (by) => (it.axis.zoom(by), it.retime());
  const pan = (by) => (it.axis.pan(by), it.retime());
  useKeys(
    {
      j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
      l: () => fold(false), h: () => fold(true), ArrowRight: () => fold(false), ArrowLeft: () => fold(true),
      PageDown: () => step(25), PageUp: () => step(-25),
      Home: () => select(0), End: () => select(it.pages.total - 1), G: () => select(it.pages.total - 1),
      n: () => jump(it, { status: "failed" }, false), N: () => jump(it, { status: "failed" }, true),
      "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "-": () => zoom(1.6), "0": () => (it.axis.show(0, it.axis.size), it.retime()),
      "[": () => pan(-0.25), "]": () => pan(0.25), f: follow,
    },
    { "j k": "next, previous row", "h l": "fold, unfold", "n N": "next, previous failure", "+ - 0": "zoom in, out, all", "[ ]": "earlier, later", f: "follow the end" },
  );
}
