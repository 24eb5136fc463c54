/**
 * The time axis of a run: from seconds to places on the screen and back. Long stretches in which nothing happened are
 * shortened (a run that waited a night for an answer stays readable), so there are two scales: `at`, seconds since the
 * epoch, and `u`, seconds of the axis, without what was cut out. The window `[a, b]` is in `u`.
 */

/** @typedef {{ from: number, to: number }} Gap a stretch in which nothing happened */

const KEPT = 0.015; // of the busy time: what remains of a gap, so that it can be seen
const WORTH = 0.12; // of the whole time: gaps shorter than this stay as they are

export class Axis {
  /** @param {number} from @param {number} to @param {Gap[]} [gaps] in order, not overlapping */
  constructor(from, to, gaps = []) {
    this.from = from;
    this.to = Math.max(to, from + 1e-3);
    const worth = gaps.filter((gap) => gap.to - gap.from > WORTH * (this.to - from));
    const busy = this.to - from - worth.reduce((sum, gap) => sum + gap.to - gap.from, 0);
    this.kept = Math.max(KEPT * Math.max(busy, 1e-3), 1e-4);
    this.gaps = worth;
    this.size = this.u(this.to);
    this.a = 0;
    this.b = this.size;
  }

  /** @param {number} at */
  u(at) {
    let cut = 0;
    for (const gap of this.gaps) {
      if (at <= gap.from) break;
      const part = Math.min(1, (at - gap.from) / (gap.to - gap.from));
      cut += part * (gap.to - gap.from - this.kept);
    }
    return at - this.from - cut;
  }

  /** @param {number} u */
  at(u) {
    let at = this.from + u;
    for (const gap of this.gaps) {
      if (at <= gap.from) break;
      const past = Math.min(1, (at - gap.from) / this.kept);
      at += past * (gap.to - gap.from - this.kept);
    }
    return at;
  }

  /** Place in the window, 0 at its left edge and 1 at its right. @param {number} at */
  x(at) {
    return (this.u(at) - this.a) / (this.b - this.a);
  }

  get zoomed() {
    return this.b - this.a < this.size * 0.999;
  }

  /** Show [a, b] of the axis, as far as there is something. @param {number} a @param {number} b */
  show(a, b) {
    const width = Math.min(Math.max(b - a, this.size * 1e-6, 1e-6), this.size);
    this.a = Math.min(Math.max(0, a), this.size - width);
    this.b = this.a + width;
  }

  /** @param {number} factor below 1: closer @param {number} [x] what stays where it is, 0 to 1 */
  zoom(factor, x = 0.5) {
    const still = this.a + x * (this.b - this.a);
    this.show(still - (still - this.a) * factor, still + (this.b - still) * factor);
  }

  /** @param {number} part of the window's width */
  pan(part) {
    const by = part * (this.b - this.a);
    this.show(this.a + by, this.b + by);
  }

  /** The run goes on: the same window, or all of it if that is what was shown. @param {Axis} before */
  follow(before) {
    if (before.zoomed) this.show(before.a, before.b);
    return this;
  }

  /** Where labels stand: whole multiples of a round step, outside gaps. @param {number} most @returns {number[]} times */
  ticks(most) {
    const step = round((this.b - this.a) / Math.max(1, most));
    const found = [];
    for (let u = Math.ceil(this.a / step) * step; u <= this.b && found.length < 60; u += step) {
      const at = this.at(u);
      if (!this.gaps.some((gap) => at > gap.from && at < gap.to)) found.push(at);
    }
    return found;
  }
}

/** The next round number of seconds. @param {number} seconds */
function round(seconds) {
  if (seconds > 1) {
    const found = [2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400].find(
      (s) => s >= seconds,
    );
    return found ?? Math.ceil(seconds / 86400) * 86400;
  }
  const ten = 10 ** Math.floor(Math.log10(seconds));
  return ([1, 2, 5, 10].find((n) => n * ten >= seconds * 0.999) ?? 10) * ten;
}
