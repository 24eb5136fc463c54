/** A run in time: the strip, the waterfall, and how one moves in them. What is chosen stands in the address. */
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { plural } from "./format.js";
import { useKeys } from "./keys.js";
import { Overview } from "./overview.js";
import { Empty, Trouble, useCalm } from "./parts.js";
import { amend, place } from "./router.js";
import { Scene } from "./scene.js";
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
    if (chosen) it.show(chosen).catch(() => {}); // the panel says what is wrong with it
  }, [chosen]);
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
      ${follow && html`<label class="tick">
        <input type="checkbox" checked=${following} onChange=${(e) => follow(e.target.checked)} /> follow</label>`}
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

/** What comes while it is shown. @param {Scene} it @param {any} hear @param {boolean} live @param {boolean} following */
function useFresh(it, hear, live, following) {
  const down = useRef(following);
  down.current = following;
  const again = useCalm(async () => {
    const [from, to] = it.waterfall?.sight ?? [0, 0];
    if (it.pages.folds.length) await it.refold();
    await it.pages.refresh(from - 50, to + 50);
    if (down.current) it.waterfall?.reveal(it.pages.total - 1);
  }, 60);
  const recount = useCalm(() => it.count().catch(() => {}), 1500, 0.2);
  useEffect(
    () =>
      hear((data) => {
        if (data?.tokens) return;
        recount(it.pages.total);
        if (!data || (down.current && data.total !== it.pages.total) || !it.take(data)) again();
      }),
    [],
  );
  useEffect(() => {
    if (!live) return;
    const timer = setInterval(() => it.end === null && it.retime(), 200);
    return () => clearInterval(timer);
  }, [live]);
}

/** Choose the next row that fits. @param {Scene} it @param {Record<string, string>} what @param {boolean} back */
async function jump(it, what, back) {
  const id = await it.find(what, place().query.effect, back);
  if (id !== null) amend({ effect: id, only: "" });
  return id !== null;
}

/** @param {Scene} it @param {() => void} follow */
function useMoves(it, follow) {
  const spot = () => it.pages.where(place().query.effect ?? null);
  const select = (index) => {
    const row = it.pages.row(index);
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
      j: () => step(1),
      k: () => step(-1),
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      l: () => fold(false),
      h: () => fold(true),
      ArrowRight: () => fold(false),
      ArrowLeft: () => fold(true),
      PageDown: () => step(25),
      PageUp: () => step(-25),
      Home: () => select(0),
      End: () => select(it.pages.total - 1),
      G: () => select(it.pages.total - 1),
      n: () => jump(it, { status: "failed" }, false),
      N: () => jump(it, { status: "failed" }, true),
      "+": () => zoom(1 / 1.6),
      "=": () => zoom(1 / 1.6),
      "-": () => zoom(1.6),
      0: () => (it.axis.show(0, it.axis.size), it.retime()),
      "[": () => pan(-0.25),
      "]": () => pan(0.25),
      f: follow,
    },
    {
      "j k": "next, previous row",
      "h l": "fold, unfold",
      "n N": "next, previous failure",
      "+ - 0": "zoom in, out, all",
      "[ ]": "earlier, later",
      f: "follow the end",
    },
  );
}
