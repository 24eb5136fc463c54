/**
 * The strip above the waterfall: how much went on over the whole run, with the window that is shown below. Drag on it
 * to choose a window, drag the window to move it, click twice to see all.
 */

export class Overview {
  /** @param {HTMLCanvasElement} canvas @param {{ axis: import("./axis.js").Axis, moved: () => void }} given */
  constructor(canvas, { axis, moved }) {
    this.canvas = canvas;
    this.axis = axis;
    this.moved = moved;
    /** @type {any} */
    this.data = null;
    /** @type {{ from: number, a: number, b: number, moves: boolean } | null} */
    this.drag = null;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => (this.drag = null));
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    canvas.addEventListener("dblclick", () => this.show(0, this.axis.size));
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(canvas);
    this.redraw = () => this.draw();
    addEventListener("weft-theme", this.redraw);
  }

  close() {
    this.size.disconnect();
    removeEventListener("weft-theme", this.redraw);
  }

  /** @param {number} a @param {number} b */
  show(a, b) {
    this.axis.show(a, b);
    this.moved();
  }

  /** @param {PointerEvent} event place on the axis, in its seconds */
  u(event) {
    const box = this.canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.axis.size;
  }

  /** @param {PointerEvent} event */
  down(event) {
    const u = this.u(event);
    const { a, b } = this.axis;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { from: u, a, b, moves: this.axis.zoomed && u > a && u < b };
  }

  /** @param {PointerEvent} event */
  move(event) {
    if (!this.drag) return;
    const u = this.u(event);
    const { from, a, b, moves } = this.drag;
    if (moves) this.show(a + u - from, b + u - from);
    else if (Math.abs(u - from) > this.axis.size * 0.005) this.show(Math.min(u, from), Math.max(u, from));
  }

  draw() {
    const { canvas, axis, data } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.scale(scale, scale);
    const colour = colours(canvas);
    const x = (at) => (axis.u(at) / axis.size) * width;
    if (data) this.columns(pen, x, height, colour);
    if (!axis.zoomed) return;
    const [from, to] = [(axis.a / axis.size) * width, (axis.b / axis.size) * width];
    pen.fillStyle = colour("--paper");
    pen.globalAlpha = 0.72;
    pen.fillRect(0, 0, from, height);
    pen.fillRect(to, 0, width - to, height);
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--accent");
    pen.strokeRect(from + 0.5, 0.5, Math.max(2, to - from - 1), height - 1);
  }

  /** @param {CanvasRenderingContext2D} pen @param {(at: number) => number} x @param {number} height @param {(name: string) => string} colour */
  columns(pen, x, height, colour) {
    const { start, width: wide, buckets } = this.data;
    const most = Math.max(1, ...buckets.map((one) => one.active));
    buckets.forEach((one, n) => {
      if (!one.active && !one.spans) return;
      const left = Math.round(x(start + n * wide)); // whole pixels, or neighbours leave a seam
      const right = Math.max(left + 1, Math.round(x(start + (n + 1) * wide)));
      const tall = Math.max(1.5, Math.sqrt(Math.max(one.active, 0.2) / most) * (height - 4));
      pen.fillStyle = colour("--bar-step");
      pen.fillRect(left, height - tall, right - left, tall);
      if (!one.failed) return;
      pen.fillStyle = colour("--bad");
      pen.fillRect(left, height - 3, Math.max(2, right - left), 3);
    });
  }
}

/** @param {Element} element @returns {(name: string) => string} */
export function colours(element) {
  const style = getComputedStyle(element);
  return (name) => style.getPropertyValue(name).trim();
}
