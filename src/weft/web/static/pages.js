/**
 * The rows of a long list, fetched in pages as they come into sight and forgotten when they are far away. The list is
 * a tree written out in order: a row's `below` says how many rows after it are inside it, so that folding needs no
 * question to the server: a folded row hides the `below` rows after it.
 */

/** @typedef {import("./waterfall.js").Row} Row */

export class Pages {
  /**
   * @param {(from: number, count: number) => Promise<{ total: number, rows: Row[] }>} fetch
   * @param {() => void} changed called when rows have come
   */
  constructor(fetch, changed) {
    this.fetch = fetch;
    this.changed = changed;
    this.total = 0;
    /** @type {Map<number, Row[]>} */
    this.pages = new Map();
    /** @type {Set<number>} */
    this.coming = new Set();
    /** Folded rows, by index in the whole list, in order. @type {{ at: number, below: number, id: string }[]} */
    this.folds = [];
    this.age = 0;
    this.pause = 0; // until when nothing is asked
    /** @type {Error | null} */
    this.error = null;
  }

  /** How many rows can be seen. */
  get shown() {
    return this.total - this.outer().reduce((sum, fold) => sum + fold.below, 0);
  }

  /** Folds that are not inside another one. */
  outer() {
    let end = -1;
    return this.folds.filter((fold) => {
      if (fold.at <= end) return false;
      end = fold.at + fold.below;
      return true;
    });
  }

  /** The index in the whole list of the `n`th row that can be seen. @param {number} n */
  index(n) {
    let at = n;
    for (const fold of this.outer()) {
      if (fold.at >= at) break;
      at += fold.below;
    }
    return at;
  }

  /** The other way: which of those that can be seen; a row inside a fold is where the fold is. @param {number} index */
  nth(index) {
    let hidden = 0;
    for (const fold of this.outer()) {
      if (fold.at >= index) break;
      hidden += Math.min(fold.below, index - fold.at);
    }
    return index - hidden;
  }

  /** @param {number} index @returns {Row | undefined} undefined: not here yet, and on its way */
  row(index) {
    if (index < 0) return undefined;
    const page = Math.floor(index / SIZE);
    const found = this.pages.get(page);
    if (!found) this.want(page);
    return found?.[index - page * SIZE];
  }

  /** Where a row is, among those that are here; -1: it is not. @param {string | null} id */
  where(id) {
    for (const [page, rows] of this.pages) {
      const n = rows.findIndex((row) => row.id === id);
      if (n >= 0) return page * SIZE + n;
    }
    return -1;
  }

  /** @param {number} page */
  async want(page) {
    if (this.coming.has(page) || this.coming.size >= AT_ONCE || performance.now() < this.pause) return;
    this.coming.add(page);
    const age = this.age;
    try {
      const { total, rows } = await this.fetch(page * SIZE, SIZE);
      if (age !== this.age) return;
      this.error = null;
      this.total = total;
      this.pages.set(page, rows);
      if (this.pages.size > MOST) this.pages.delete(farthest(this.pages.keys(), page));
    } catch (error) {
      this.error = error;
      this.pause = performance.now() + 1000; // it is drawn again at once, and would ask again at once
    } finally {
      this.coming.delete(page);
      this.changed();
    }
  }

  /** There are more at the end. @param {number} total */
  grow(total) {
    if (total === this.total) return;
    this.pages.delete(Math.floor(this.total / SIZE)); // it was not full
    this.total = total;
  }

  /** The rows have changed on the server: fetch again those around here, and show the old ones until they come.
   * @param {number} from @param {number} to indexes @returns {Promise<void>} */
  async refresh(from, to) {
    this.age += 1;
    const age = this.age;
    const first = Math.floor(Math.max(0, from) / SIZE) * SIZE;
    const count = Math.max(SIZE, Math.ceil((to + 1 - first) / SIZE) * SIZE);
    try {
      const { total, rows } = await this.fetch(first, count);
      if (age !== this.age) return;
      this.total = total;
      this.pages.clear();
      for (let n = 0; n * SIZE < rows.length; n++)
        this.pages.set(first / SIZE + n, rows.slice(n * SIZE, (n + 1) * SIZE));
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.changed();
  }

  /** Fold a row, or unfold it. @param {number} index */
  toggle(index) {
    const folded = this.folds.findIndex((fold) => fold.at === index);
    if (folded >= 0) this.folds.splice(folded, 1);
    else {
      const row = this.row(index);
      if (!row?.below) return;
      this.folds.push({ at: index, below: row.below, id: row.id });
      this.folds.sort((one, other) => one.at - other.at);
    }
    this.changed();
  }

  /** @param {number} index */
  folded(index) {
    return this.folds.some((fold) => fold.at === index);
  }
}

const SIZE = 200; // rows of a page
const MOST = 60; // pages that are kept
const AT_ONCE = 4;

/** @param {Iterable<number>} pages @param {number} from */
function farthest(pages, from) {
  return [...pages].reduce((far, page) => (Math.abs(page - from) > Math.abs(far - from) ? page : far), from);
}
