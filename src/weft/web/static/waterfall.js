/**
 * The waterfall: rows of a tree, each with its bar in time. It draws only the rows that are in sight, into elements
 * that it uses again, and asks nothing of the page between two frames; so 100,000 rows scroll as 100 do.
 * It is told its rows (`pages.js`) and its time (`axis.js`), and tells which row was chosen.
 */
import { length } from "./format.js";

/**
 * @typedef {{ index: number, id: string, name: string, kind: string, depth: number, below: number, start: number, end: number | null, status: string, attempts: number, note: string | null }} Row
 */

export class Waterfall {
  /**
   * @param {HTMLElement} host gets the scrolling list
   * @param {{ pages: import("./pages.js").Pages, axis: import("./axis.js").Axis, now: () => number, choose: (row: Row) => void, moved: () => void }} given
   */
  constructor(host, { pages, axis, now, choose, moved }) {
    this.host = /** @type {HTMLElement} */ (host.parentElement);
    this.pages = pages;
    this.axis = axis;
    this.now = now;
    this.choose = choose;
    /** @type {string | null} */
    this.chosen = null;
    /** @type {Slot[]} */
    this.slots = [];
    this.high = 24; // pixels, as are the next three, until it is measured
    this.names = 300;
    this.width = 40;
    this.tall = 0;
    this.frame = 0;
    this.version = 0; // of the axis: bars are placed anew when it changes
    this.list = element("div", "rows");
    this.list.tabIndex = 0;
    this.list.setAttribute("role", "tree");
    this.list.setAttribute("aria-label", "Effects in order");
    this.space = element("div", "space");
    this.marks = element("div", "marks");
    this.list.append(this.space);
    host.append(this.marks, this.list);
    this.list.addEventListener("scroll", () => this.draw(), { passive: true });
    this.list.addEventListener("click", (event) => this.click(event));
    this.list.addEventListener("wheel", (event) => this.wheel(event, moved), { passive: false });
    this.size = new ResizeObserver(() => this.measure());
    this.size.observe(this.list);
    this.measure();
  }

  close() {
    this.size.disconnect();
    cancelAnimationFrame(this.frame);
  }

  measure() {
    const style = getComputedStyle(this.list);
    this.high = parseFloat(style.getPropertyValue("--row")) || 24;
    this.names = parseFloat(style.getPropertyValue("--names")) || 300;
    if (this.names <= 1) this.names = Math.round(this.names * this.list.clientWidth); // a part of the width
    this.space.style.setProperty("--name-width", `${this.names}px`);
    this.width = Math.max(40, this.list.clientWidth - parseFloat(style.paddingLeft) - this.names - 12);
    this.tall = this.list.clientHeight;
    const left = this.list.offsetLeft + parseFloat(style.paddingLeft) + this.names;
    this.host.style.setProperty("--track-left", `${left}px`); // for the strip above
    this.host.style.setProperty("--track-width", `${this.width}px`);
    this.again();
  }

  /** The axis, or rows that are here already, have changed. */
  again() {
    this.version += 1;
    this.draw();
  }

  /** Make the list as long as its rows. */
  stretch() {
    const shown = this.pages.shown;
    const space = `${shown * this.high}px`;
    if (this.space.style.height !== space) this.space.style.height = space;
    return shown;
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    const shown = this.stretch();
    const first = Math.max(0, Math.floor(this.list.scrollTop / this.high) - 2);
    const many = Math.min(shown, Math.ceil(this.tall / this.high) + 5);
    while (this.slots.length < many) this.slots.push(new Slot(this.space));
    const used = this.slots.length;
    for (let n = first; n < first + used; n++) {
      const slot = this.slots[n % used];
      if (n >= shown) slot.hide();
      else this.fill(slot, n);
    }
    this.mark();
  }

  /** @param {Slot} slot @param {number} n */
  fill(slot, n) {
    const index = this.pages.index(n);
    const row = this.pages.row(index);
    slot.place(n * this.high);
    if (!row) return slot.blank();
    const folded = this.pages.folded(index);
    if (slot.row !== row || slot.folded !== folded) slot.tell(row, folded, index);
    slot.choose(row.id === this.chosen, this.list);
    if (slot.version !== this.version || slot.row !== row || row.end === null) this.bar(slot, row);
    slot.row = row;
    slot.folded = folded;
    slot.version = this.version;
  }

  /** @param {Slot} slot @param {Row} row */
  bar(slot, row) {
    const end = row.end ?? Math.max(this.now(), row.start);
    const left = this.axis.x(row.start) * this.width;
    const right = this.axis.x(end) * this.width;
    const from = Math.max(-4, left);
    const wide = Math.min(this.width + 4, Math.max(right, left + 2)) - from;
    slot.bar.style.visibility = right < -2 || left > this.width + 2 ? "hidden" : "visible";
    slot.bar.style.transform = `translateX(${from.toFixed(1)}px)`;
    slot.bar.style.width = `${Math.max(2, wide).toFixed(1)}px`;
    slot.took.textContent = row.end === row.start ? "" : length(end - row.start);
    const room = this.width - (from + wide);
    const before = room < 64 && from > 64;
    slot.took.style.transform = before
      ? `translateX(calc(${(from - 6).toFixed(1)}px - 100%))`
      : `translateX(${(room < 64 ? Math.max(4, Math.min(from + 6, this.width - 60)) : Math.max(0, from + wide + 6)).toFixed(1)}px)`;
    slot.took.dataset.inside = String(room < 64 && !before);
    slot.took.style.visibility = slot.bar.style.visibility;
  }

  /** Labels of the axis, with lines down all rows. */
  mark() {
    if (this.marked === this.version) return;
    this.marked = this.version;
    const { axis, width, names } = this;
    const ticks = axis.ticks(width / 90).map((at) => {
      const mark = element("div", "tick-mark");
      mark.style.left = `${names + axis.x(at) * width}px`;
      mark.textContent = at === axis.from ? "0" : `${length(Math.round((at - axis.from) * 1e6) / 1e6)}`;
      return mark;
    });
    const gaps = axis.gaps
      .filter((gap) => axis.x(gap.to) > 0 && axis.x(gap.from) < 1)
      .map((gap) => {
        const mark = element("div", "gap");
        const left = Math.max(0, axis.x(gap.from));
        mark.style.left = `${names + left * width}px`;
        mark.style.width = `${(Math.min(1, axis.x(gap.to)) - left) * width}px`;
        mark.title = `${length(gap.to - gap.from)} in which nothing happened`;
        return mark;
      });
    this.marks.replaceChildren(...gaps, ...ticks);
  }

  /** @param {MouseEvent} event */
  click(event) {
    const at = /** @type {HTMLElement} */ (event.target);
    const slot = this.slots.find((one) => one.el === at.closest(".row"));
    if (!slot?.row) return;
    if (at.closest(".twist") && slot.row.below) this.pages.toggle(slot.index);
    else this.choose(slot.row);
  }

  /** @param {WheelEvent} event @param {() => void} moved */
  wheel(event, moved) {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!event.ctrlKey && !event.metaKey && !sideways) return;
    event.preventDefault();
    const x = (event.clientX - this.list.getBoundingClientRect().left - this.names) / this.width;
    if (sideways && !event.ctrlKey) this.axis.pan((event.deltaX || event.deltaY) / this.width);
    else this.axis.zoom(Math.exp(event.deltaY * 0.0025), Math.min(1, Math.max(0, x)));
    moved();
    this.again();
  }

  /** Bring a row into sight. @param {number} index in the whole list */
  reveal(index) {
    this.stretch();
    const top = this.pages.nth(index) * this.high;
    const { scrollTop } = this.list;
    if (top < scrollTop) this.list.scrollTop = top;
    else if (top + this.high > scrollTop + this.tall) this.list.scrollTop = top + this.high - this.tall;
    this.draw();
  }

  /** Indexes of the first and last row in sight. @returns {[number, number]} */
  get sight() {
    const first = Math.floor(this.list.scrollTop / this.high);
    const last = Math.min(this.pages.shown, first + Math.ceil(this.tall / this.high)) - 1;
    return [this.pages.index(Math.max(0, first)), this.pages.index(Math.max(0, last))];
  }

  get atEnd() {
    return this.list.scrollTop + this.tall >= this.list.scrollHeight - this.high;
  }
}

/** One element for a row, used for one row after the other. */
class Slot {
  /** @param {HTMLElement} space */
  constructor(space) {
    this.el = element("div", "row");
    this.el.setAttribute("role", "treeitem");
    this.name = element("div", "name");
    this.twist = element("span", "twist");
    this.twist.setAttribute("aria-hidden", "true");
    this.label = element("span", "label");
    this.note = element("span", "about");
    this.name.append(this.twist, this.label, this.note);
    this.track = element("div", "track");
    this.bar = element("div", "bar");
    this.took = element("span", "took");
    this.track.append(this.bar, this.took);
    this.el.append(this.name, this.track);
    /** @type {Row | undefined} */
    this.row = undefined;
    this.folded = false;
    this.version = -1;
    this.index = -1;
    this.top = -1;
    space.append(this.el);
  }

  /** @param {number} top */
  place(top) {
    if (this.top === top) return;
    if (this.top < 0) this.el.hidden = false;
    this.top = top;
    this.el.style.transform = `translateY(${top}px)`;
  }

  hide() {
    if (this.top === -1 && this.el.hidden) return;
    this.el.hidden = true;
    this.top = -1;
  }

  /** Its row is on its way. */
  blank() {
    if (!this.row && this.index === -1) return;
    this.row = undefined;
    this.index = -1;
    this.el.className = "row coming";
    this.label.textContent = "";
    this.note.textContent = "";
    this.took.textContent = "";
    this.bar.style.visibility = "hidden";
  }

  /** @param {Row} row @param {boolean} folded @param {number} index */
  tell(row, folded, index) {
    this.index = index;
    this.el.id = `row-${index}`;
    this.el.className = `row ${group(row.kind)} ${row.status}`;
    this.el.setAttribute("aria-level", String(row.depth + 1));
    if (row.below) this.el.setAttribute("aria-expanded", String(!folded));
    else this.el.removeAttribute("aria-expanded");
    this.twist.textContent = row.below ? (folded ? "▸" : "▾") : "";
    this.name.style.paddingLeft = `${Math.min(row.depth, 12) * 14}px`;
    const parts = row.name.split(".");
    this.label.textContent = row.kind === "child" ? `…${row.name.slice(-6)}` : parts[parts.length - 1] || row.kind;
    const more = row.attempts > 1 ? `${row.attempts} attempts` : "";
    const kind = WORDS[row.kind] ?? (row.kind === row.name ? "" : row.kind);
    this.note.textContent = [kind, folded ? `${row.below} below` : "", more, row.note].filter(Boolean).join(" · ");
    this.el.title = `${row.name || row.kind} (${row.kind}), ${row.status}${row.note ? `: ${row.note}` : ""}`;
  }

  /** @param {boolean} chosen @param {HTMLElement} list */
  choose(chosen, list) {
    const said = String(chosen);
    if (this.el.getAttribute("aria-selected") !== said) this.el.setAttribute("aria-selected", said);
    if (chosen) list.setAttribute("aria-activedescendant", this.el.id);
  }
}

/** What is said of a kind beside the name, where it isn't the kind itself. @type {Record<string, string>} */
const WORDS = { step: "", process: "", generation: "", child: "awaited", spawn: "started", detach: "started apart" };

/** Kinds that look alike. @param {string} kind */
export function group(kind) {
  if (kind === "generation" || kind === "tool" || kind === "step" || kind === "process") return kind;
  if (kind.startsWith("memory.")) return "memory";
  if (["sleep", "timer", "ask", "receive", "event", "child"].includes(kind)) return "wait";
  return "small";
}

/** @param {string} tag @param {string} name */
function element(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}
