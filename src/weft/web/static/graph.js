/** The realised graph of a run, as the server laid it out; drag to move, wheel or keys to zoom, click for an effect. */
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { useGet } from "./api.js";
import { length, money, plural } from "./format.js";
import { useKeys } from "./keys.js";
import { Empty, Trouble, useCalm } from "./parts.js";
import { amend } from "./router.js";
import { group } from "./waterfall.js";

/** @param {{ id: string, chosen: string | null, hear: any }} props */
export function Graph({ id, chosen, hear }) {
  const [which, setWhich] = useState("graph");
  const answer = useGet(`/api/runs/${id}/${which}`);
  const again = useCalm(() => which === "graph" && answer.again(), 1500, 0.2); // a template stays as it is
  useEffect(() => hear((data) => !data?.tokens && again(data?.total)), []);
  const graph = answer.data;
  const none = answer.ready && !graph?.nodes?.length;
  return html`<section class="graph" aria-label="Graph">
    <div class="bar-line"><div class="chips" role="group" aria-label="Which graph">
      <button aria-pressed=${String(which === "graph")} onClick=${() => setWhich("graph")}>What ran</button>
      <button aria-pressed=${String(which === "template")} onClick=${() => setWhich("template")}>What could run</button>
        </div>
      ${graph?.nodes && html`<span class="dim">
        ${plural(graph.nodes.length, "node")}, ${plural(graph.edges.length, "edge")}${graph.folded ? ", those of one place folded" : ""}; drag and wheel move it, 0 shows all</span>`}
    </div>
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${none && html`<${Empty} title="No graph">
      ${which === "template" ? "The source of this workflow can't be read here." : "Nothing has happened in this run yet, or too much to draw it."}</${Empty}>`}
    ${graph?.nodes?.length > 0 && html`<${Drawing} graph=${graph} chosen=${chosen} />
      <${Report} report=${graph.report} />`}
  </section>`;
}

/** @param {{ graph: any, chosen: string | null }} props */
function Drawing({ graph, chosen }) {
  const svg = useRef(/** @type {SVGSVGElement | null} */ (null));
  const whole = useMemo(() => bounds(graph.nodes), [graph]);
  const [held, hold] = useState(/** @type {number[] | null} */ (null));
  const drag = useRef(/** @type {any[] | null} */ (null));
  const [x, y, wide, high] = held ?? begin(whole);
  const zoom = (by, px = 0.5, py = 0.5) =>
    hold([x + wide * px * (1 - by), y + high * py * (1 - by), wide * by, high * by]);
  useKeys(
    { "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), 0: () => hold(whole) },
    { "+ - 0": "zoom in, out, all" },
  );
  useEffect(() => {
    const at = /** @type {SVGSVGElement} */ (svg.current);
    const wheel = (event) => {
      event.preventDefault();
      const box = at.getBoundingClientRect();
      zoom(
        Math.exp(event.deltaY * 0.0015),
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      );
    };
    at.addEventListener("wheel", wheel, { passive: false });
    return () => at.removeEventListener("wheel", wheel);
  }, [x, y, wide, high]);
  const move = (event) => {
    if (!drag.current) return;
    const box = /** @type {SVGSVGElement} */ (svg.current).getBoundingClientRect();
    const scale = Math.max(wide / box.width, high / box.height);
    const [fx, fy, from] = drag.current;
    hold([from[0] - (event.clientX - fx) * scale, from[1] - (event.clientY - fy) * scale, wide, high]);
  };
  return html`<svg ref=${svg} class="drawing" viewBox=${`${x} ${y} ${wide} ${high}`} role="group" aria-label="Graph of the run"
    onPointerDown=${(e) => !(/** @type {Element} */ (e.target).closest(".node")) && (drag.current = [e.clientX, e.clientY, [x, y]])}
    onPointerMove=${move} onPointerUp=${() => (drag.current = null)} onPointerLeave=${() => (drag.current = null)}>
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
      <path d="M0 0.5 7.5 4 0 7.5z" /></marker></defs>
    <${Edges} graph=${graph} />
    ${graph.nodes.map((node) => html`<${Node} key=${node.id} node=${node} chosen=${node.id === chosen} />`)}
  </svg>`;
}

/** @param {{ graph: any }} props */
function Edges({ graph }) {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  return graph.edges.map((edge, n) => {
    const [from, to] = [nodes.get(edge.from), nodes.get(edge.to)];
    if (!from || !to) return null;
    const down = to.y >= from.y + from.height - 1;
    const [x1, y1] = down
      ? [from.x + from.width / 2, from.y + from.height]
      : [from.x + from.width, from.y + from.height / 2];
    const [x2, y2] = down ? [to.x + to.width / 2, to.y] : [to.x, to.y + to.height / 2];
    const [cx, cy] = down ? [0, Math.max(10, (y2 - y1) / 2)] : [Math.max(10, (x2 - x1) / 2), 0];
    return html`<path key=${n} class=${`edge ${edge.kind ?? ""}`} d=${`M${x1} ${y1}C${x1 + cx} ${y1 + cy} ${x2 - cx} ${y2 - cy} ${x2} ${y2}`} marker-end="url(#arrow)" />`;
  });
}

/** @param {{ node: any, chosen: boolean }} props */
function Node({ node, chosen }) {
  const open = () => node.id && amend({ effect: node.id });
  const fits = Math.max(4, Math.floor((node.width - 16) / 6.6));
  const name = node.name || node.kind;
  const under = [
    node.count > 1 ? `× ${node.count}` : "",
    node.seconds ? length(node.seconds) : "",
    node.money ? money(node.money) : "",
  ]
    .filter(Boolean)
    .join(" · ");
  return html`<g class=${`node ${group(node.kind)} ${node.status} ${chosen ? "chosen" : ""}`} transform=${`translate(${node.x} ${node.y})`}
    tabindex="0" role="button" aria-label=${`${name}, ${node.kind}, ${node.status}`} onClick=${open} onKeyDown=${(e) => e.key === "Enter" && open()}>
    <title>${name} (${node.kind}), ${node.status}</title>
    <rect width=${node.width} height=${node.height} rx="5" />
      <rect class="edge-of" width="3" height=${node.height} rx="1.5" />
    <text x="10" y=${under ? node.height / 2 - 2 : node.height / 2 + 4}>
      ${name.length > fits ? `${name.slice(0, fits - 1)}…` : name}</text>
    ${under && html`<text class="under" x="10" y=${node.height / 2 + 12}>${under}</text>`}
  </g>`;
}

/** What is shown at first: all of it, unless nobody could read that; then its upper middle. @param {number[]} whole */
function begin([x, y, wide, high]) {
  const most = Math.min(1500, innerWidth * 1.35);
  const shown = Math.min(wide, most);
  return [x + (wide - shown) / 2, y, shown, Math.min(high, most * 0.45)];
}

/** @param {any[]} nodes @returns {[number, number, number, number]} */
function bounds(nodes) {
  const x = Math.min(...nodes.map((node) => node.x)) - 24;
  const y = Math.min(...nodes.map((node) => node.y)) - 24;
  const right = Math.max(...nodes.map((node) => node.x + node.width)) + 24;
  const foot = Math.max(...nodes.map((node) => node.y + node.height)) + 24;
  return [x, y, Math.max(right - x, 420), Math.max(foot - y, 260)];
}

/** Numbers of the graph. @param {{ report: any }} props */
function Report({ report }) {
  const known = Object.entries(report ?? {}).filter(([, value]) =>
    ["number", "string", "boolean"].includes(typeof value),
  );
  if (!known.length) return null;
  return html`<dl class="facts report">${known.map(([name, value]) => html`<div><dt>${name.replaceAll("_", " ")}</dt>
    <dd>${typeof value === "number" ? Number(value.toFixed(3)) : String(value)}</dd></div>`)}</dl>`;
}
