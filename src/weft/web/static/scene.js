/**
 * A run in time, as it is held between two drawings: its rows, its axis, and the two that draw them. They live outside
 * of Preact, since they are drawn many times a second.
 */
import { address, get } from "./api.js";
import { Axis } from "./axis.js";
import { Pages } from "./pages.js";

/** @typedef {import("./waterfall.js").Waterfall} Waterfall */
/** @typedef {import("./overview.js").Overview} Overview */

const FOLDS = 20; // that are kept while rows come in between

export class Scene {
  /** @param {string} run @param {number} offset of the server's clock @param {() => void} changed */
  constructor(run, offset, changed) {
    this.run = run;
    this.only = /** @type {Record<string, string>} */ ({});
    this.start = 0;
    this.end = /** @type {number | null} */ (null);
    this.now = () => Date.now() / 1000 + offset;
    this.axis = new Axis(0, 1);
    this.found = -1; // index of the row that was found last
    this.buckets = null;
    this.rests = false;
    this.ready = Promise.resolve(); // the first rows are here
    this.timer = 0;
    this.timed = this.buckets; // those that the axis was made with
    this.changed = changed;
    this.pages = new Pages(
      (from, count) => this.fetch(from, count),
      () => this.arrived(),
    );
    this.waterfall = /** @type {Waterfall | null} */ (null);
    this.overview = /** @type {Overview | null} */ (null);
  }

  /** @param {number} from @param {number} count */
  async fetch(from, count) {
    const answer = await get(`/api/runs/${this.run}/rows`, { ...this.only, from, count });
    this.start = answer.start ?? this.start;
    this.end = answer.end;
    if (answer.reading && !this.timer) this.timer = setTimeout(() => this.readOn(), 500);
    if (this.narrowed) for (const row of answer.rows) row.below = 0; // what is below it is not what follows it here
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
    this.rests =
      this.end === null &&
      !(await get(`/api/runs/${this.run}/rows`, { status: ["running", "retrying"], count: 1 })).total;
    if (this.overview) this.overview.data = this.buckets;
    this.retime();
  }

  /** Show only rows that fit. @param {Record<string, string>} only */
  narrow(only) {
    if (address("", only) === address("", this.only)) return;
    this.only = only;
    this.pages.folds = [];
    this.ready = this.pages.refresh(0, 0);
  }

  get narrowed() {
    return Object.keys(this.only).length > 0;
  }

  /** Spans are new, or changed. Rows that are here are changed in place; false where rows must be read again.
   * @param {any} data as the server told them */
  take(data) {
    if (data.more || this.narrowed) return false;
    if (data.total !== this.pages.total && !this.beyond(data.spans)) return false;
    this.pages.grow(data.total);
    this.end = data.end;
    const changed = new Map(data.spans.map((row) => [row.id, row]));
    for (const rows of this.pages.pages.values())
      rows.forEach((row, n) => changed.has(row.id) && (rows[n] = { ...row, ...changed.get(row.id), index: row.index }));
    this.arrived();
    return true;
  }

  /** Whether all new rows come after those in sight, and so can wait. @param {any[]} spans */
  beyond(spans) {
    const last = this.waterfall?.sight[1] ?? 0;
    return last < this.pages.total - 1 && spans.every((row) => row.depth === 1 || this.pages.where(row.id) >= 0);
  }

  /** Find out where the folded rows are now. */
  async refold() {
    const ask = async ({ id }) =>
      (await get(`/api/runs/${this.run}/rows`, { at: id, count: 1 })).rows.find((row) => row.id === id);
    const found = await Promise.all(this.pages.folds.slice(0, FOLDS).map(ask));
    this.pages.folds = found
      .filter(Boolean)
      .map((row) => ({ at: row.index, below: row.below, id: row.id }))
      .sort((a, b) => a.at - b.at);
  }

  /** Bring a span into sight. @param {string} id */
  async show(id) {
    await this.ready;
    const here = this.pages.where(id);
    const found =
      here >= 0 || this.narrowed ? here : (await get(`/api/runs/${this.run}/rows`, { at: id, count: 1 })).found;
    if (found == null || found < 0) return;
    for (const fold of this.pages.outer())
      if (found > fold.at && found <= fold.at + fold.below) this.pages.toggle(fold.at);
    this.waterfall?.reveal(found);
  }

  /** The next row that fits, or the one before, counted from this one. @param {Record<string, string>} what
   * @param {string | undefined} from id of a span @param {boolean} back @returns {Promise<string | null>} its id */
  async find(what, from, back) {
    const at = this.pages.row(this.pages.where(from ?? null))?.index ?? this.found;
    const { index, id } = await get(`/api/runs/${this.run}/find`, {
      ...what,
      from: back ? Math.max(0, at) : at + 1,
      back: back ? 1 : null,
    });
    if (id !== null) this.found = index;
    return id;
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
