/** Sums over time, drawn as one line or as columns; the numbers stand beside them. */
import { html, useState } from "./vendor/preact.js";
import { useGet } from "./api.js";
import { count, length, moment, money, short } from "./format.js";
import { Empty, Trouble } from "./parts.js";

const WIDE = 800;
const HIGH = 180;

/** What a run has spent, up to each moment. @param {{ id: string, run: any }} props */
export function Costs({ id, run }) {
  const answer = useGet(`/api/runs/${id}/costs`, { n: 200 });
  const [what, pick] = useState("");
  const points = answer.data?.points ?? [];
  const last = points[points.length - 1];
  const free = last && !last.money && !last.tokens_in && !last.tokens_out;
  const by = Object.entries(answer.data?.by ?? {});
  const shown = what || (last?.money ? "money" : "tokens");
  const value = (point) => (shown === "money" ? point.money : point.tokens_in + point.tokens_out);
  const say = shown === "money" ? money : short;
  return html`<section class="page" aria-label="Costs">
    <${Trouble} error=${answer.error} again=${answer.again} />
    ${answer.data && (!last || free) && html`<${Empty} title="It has cost nothing">No model has answered in this run yet. What models are known to cost: <code>weft models list</code>
      </${Empty}>`}
    ${
      last &&
      !free &&
      html`
      <div class="page-head"><div class="chips" role="group" aria-label="What">
        <button aria-pressed=${String(shown === "money")} onClick=${() => pick("money")}>Money</button>
        <button aria-pressed=${String(shown === "tokens")} onClick=${() => pick("tokens")}>Tokens</button></div>
        <b class="big">${say(value(last))}</b></div>
      <${Line} points=${points.map((one) => [one.at, value(one)])} say=${say} start=${run.total?.start ?? run.started} />
      <div class="sheet"><table><thead><tr><th>Model</th><th class="num">Generations</th>
        <th class="num">Tokens in</th><th class="num">Tokens out</th><th class="num">Cost</th></tr></thead>
        <tbody>${by.map(([name, one]) => html`<tr><td>${name}</td><td class="num">${count(one.generations)}</td>
          <td class="num">${count(one.tokens_in)}</td><td class="num">${count(one.tokens_out)}</td><td class="num">
          ${money(one.money)}</td></tr>`)}</tbody></table></div>`
    }
  </section>`;
}

/** @param {{ points: [number, number][], say: (n: number) => string, start: number }} props */
function Line({ points, say, start }) {
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const most = Math.max(...points.map(([, value]) => value)) || 1;
  const x = (at) => ((at - first) / Math.max(1e-6, last - first)) * WIDE;
  const y = (value) => HIGH - (value / most) * (HIGH - 10);
  // sums stand still between two moments
  const path = points
    .map(([at, value], n) => (n ? `H${x(at).toFixed(1)}V${y(value).toFixed(1)}` : `M0 ${y(value).toFixed(1)}`))
    .join("");
  return html`<figure class="chart">
    <svg viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label=${`From ${say(points[0][1])} to ${say(points[points.length - 1][1])}`}>
      <path class="fill" d=${`${path}V${HIGH}H0Z`} /><path class="stroke" d=${path} />
    </svg>
    <figcaption><span>+${length(first - start)}</span><span>+${length(last - start)}</span></figcaption>
  </figure>`;
}

const SHADES = 5;

/** Columns, each made of parts: the largest names have a shade of their own, the others share one.
 * @param {{ buckets: any[], width: number }} props */
export function Columns({ buckets, width }) {
  /** @type {Record<string, number>} */
  const sums = {};
  for (const one of buckets)
    for (const [name, value] of Object.entries(one.by ?? {}))
      sums[name] = (sums[name] ?? 0) + /** @type {number} */ (value);
  const names = Object.keys(sums).sort((a, b) => sums[b] - sums[a]);
  const shade = (name) => Math.min(names.indexOf(name), SHADES - 1);
  const most = Math.max(...buckets.map((one) => one.money)) || 1;
  const wide = WIDE / buckets.length;
  return html`<figure class="chart">
    <svg viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label=${`Cost over time, at most ${money(most)} in ${length(width)}`}>
      ${buckets.map((one, n) => {
        let top = HIGH;
        return html`<g key=${n}><title>${moment(one.at)}: ${money(one.money)}, ${one.runs} runs</title>
          <rect class="ground" x=${n * wide} y="0" width=${wide} height=${HIGH} />
          ${names
            .filter((name) => one.by?.[name])
            .map((name) => {
              const high = (one.by[name] / most) * (HIGH - 10);
              top -= high;
              return html`<rect class=${`shade-${shade(name)}`} x=${n * wide + 1} y=${top} width=${Math.max(1, wide - 2)} height=${high} />`;
            })}</g>`;
      })}
    </svg>
    <figcaption><span>${moment(buckets[0].at)}</span><span>${moment(buckets[buckets.length - 1].at + width)}</span>
      </figcaption>
    <table class="key"><tbody>${names.slice(0, 12).map((name) => html`<tr><td>
      <i class=${`swatch shade-${shade(name)}`}></i> ${name}</td><td class="num">${money(sums[name])}</td>
      </tr>`)}</tbody></table>
  </figure>`;
}
