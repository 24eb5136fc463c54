/** Numbers and times as people read them. All times are seconds since the epoch, all lengths seconds. */

/** @param {number | null | undefined} seconds */
export function length(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const s = Math.abs(seconds);
  if (s === 0) return "0";
  if (s < 1e-3) return `${trim(s * 1e6, 0)} µs`;
  if (s < 1) return `${trim(s * 1e3, s < 0.01 ? 1 : 0)} ms`;
  if (s < 60) return `${trim(s, s < 10 ? 2 : 1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(Math.floor(s % 60))} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${pad(Math.floor((s % 86400) / 3600))} h`;
}

/** How long ago, in one unit. @param {number} at @param {number} [now] */
export function ago(at, now = Date.now() / 1000) {
  const s = Math.max(0, now - at);
  if (s < 5) return "just now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

/** Date and time of day, here. @param {number | null | undefined} at */
export function moment(at) {
  if (!at) return "–";
  return new Date(at * 1000).toLocaleString(undefined, {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

/** Time of day with milliseconds. @param {number} at */
export function clock(at) {
  const date = new Date(at * 1000);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {number | null | undefined} dollars */
export function money(dollars) {
  if (dollars == null) return "–";
  if (dollars === 0) return "$0";
  return `$${dollars < 0.01 ? trim(dollars, 5) : dollars < 1 ? trim(dollars, 3) : dollars.toFixed(2)}`;
}

/** @param {number | null | undefined} n */
export function count(n) {
  return n == null ? "–" : n.toLocaleString("en");
}

/** Short: 12.3k. @param {number | null | undefined} n */
export function short(n) {
  if (n == null) return "–";
  if (n < 1000) return String(n);
  if (n < 1e6) return `${trim(n / 1e3, n < 1e4 ? 1 : 0)}k`;
  return `${trim(n / 1e6, n < 1e7 ? 1 : 0)}M`;
}

/** @param {number | null | undefined} n */
export function bytes(n) {
  if (n == null) return "–";
  if (n < 1024) return `${n} B`;
  const step = Math.min(4, Math.floor(Math.log2(n) / 10));
  return `${trim(n / 1024 ** step, 1)} ${["B", "KiB", "MiB", "GiB", "TiB"][step]}`;
}

/** `one effect`, `2 effects`. @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** The last part of a dotted name, which is what people call it. @param {string} name */
export function bare(name) {
  return name.slice(name.lastIndexOf(".") + 1);
}

/** @param {number} n */
function pad(n) {
  return String(n).padStart(2, "0");
}

/** Without zeros at the end. @param {number} n @param {number} digits */
function trim(n, digits) {
  return n
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, "$1")
    .replace(/\.$/, "");
}
