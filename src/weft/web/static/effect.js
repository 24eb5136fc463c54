/** One effect, beside the run: everything the journal has of it, fetched when it is chosen. */
import { html, useEffect, useState } from "./vendor/preact.js";
import { folder, useGet } from "./api.js";
import { Question } from "./ask.js";
import { Fork } from "./fork.js";
import { bytes, clock, count, length, money, moment, short } from "./format.js";
import { Messages } from "./messages.js";
import { Copy, State, Trouble, useCalm } from "./parts.js";
import { to } from "./router.js";
import { Body, Text } from "./value.js";

/** @param {{ id: string, run: any, server: any, hear: any, words: Map<string, any>, close: () => void }} props */
export function Effect({ id, run, server, hear, words, close }) {
  const process = !id.includes(":");
  return html`<aside class="panel" aria-label="Details">
    ${
      process
        ? html`<${Process} id=${id} run=${run} close=${close} />`
        : html`<${Detail} id=${id} run=${run} server=${server} hear=${hear} words=${words} close=${close} />`
    }
  </aside>`;
}

/** @param {{ kind: string, name: string, status: string, id: string, close: () => void, children?: any }} props */
const Top = ({ kind, name, status, id, close, children }) => html`<header class="top">
  <div class="over"><span class="dim">${kind}</span>
    <${State} state=${status === "ok" ? "done" : status} words=${status} />
    <span class="spring"></span><${Copy} text=${id} words="Copy id" />
      <button class="plain" onClick=${close} aria-label="Close" title="Close (Esc)">✕</button></div>
  <h1 class="mono">${name}</h1>
  ${children}
</header>`;

/** A process in the tree: what it was given and what came of it. @param {{ id: string, run: any, close: () => void }} props */
function Process({ id, run, close }) {
  const own = id === run.id;
  const other = useGet(own ? null : `/api/runs/${id}`);
  const data = own ? run : other.data;
  if (!data) return html`<${Trouble} error=${other.error} again=${other.again} />`;
  return html`
    <${Top} kind="process" name=${data.workflow} status=${data.state} id=${id} close=${close}>
      <div class="acts">${!own && !folder && html`<a class="button" href=${to(["run", id])}>Open as a run</a>`}</div>
    </${Top}>
    <${Facts} of=${[
      ["began", moment(data.started || data.created)],
      ["took", length(data.seconds)],
      ["effects", count(data.effects)],
      ["tokens", data.tokens_in ? `${count(data.tokens_in)} in, ${count(data.tokens_out)} out` : null],
      ["cost", data.money ? money(data.money) : null],
      ["queue", data.queue],
      ["tenant", data.tenant],
      ["source", data.source],
      ["version", data.version?.slice(0, 12)],
    ]} />
    ${data.error && data.state === "failed" && html`<${Wrong} error=${{ ...data.error, traceback: data.traceback }} />`}
    <${Body} title="Input" body=${data.input} href=${`/api/runs/${id}/input`} />
    <${Body} title="Result" body=${data.result} href=${`/api/runs/${id}/result`} />
  `;
}

/** @param {{ id: string, run: any, server: any, hear: any, words: Map<string, any>, close: () => void }} props */
function Detail({ id, run, server, hear, words, close }) {
  const effect = useGet(`/api/effects/${id}`);
  const [, said] = useState(0);
  const [forking, fork] = useState(false);
  const again = useCalm(effect.again, 150);
  useEffect(
    () =>
      hear((data) => {
        if (data?.tokens === id) said((n) => n + 1);
        else if (!data || data.spans?.some((row) => row.id === id)) again();
      }),
    [id],
  );
  const data = effect.data;
  if (!data)
    return html`<${Top} kind="effect" name=${id.split(":")[1]} status="" id=${id} close=${close} />
      <${Trouble} error=${effect.error} again=${effect.again} />`;
  const { span } = data;
  const mine = span.process === run.id;
  return html`
    <${Top} kind=${span.kind} name=${span.name || span.kind} status=${span.status} id=${id} close=${close}>
      <div class="acts">
        ${data.forkable && mine && !folder && !server.read_only && html`<button onClick=${() => fork(true)}>Fork from here</button>`}
        ${data.child && !folder && html`<a class="button" href=${to(["run", data.child])}>Open the process</a>`}
      </div>
    </${Top}>
    ${data.question && !folder && html`<${Question} one=${data.question} server=${server} within />`}
    <${Facts} of=${facts(data, run)} />
    ${data.error && html`<${Wrong} error=${data.error} />`}
    <${Words} data=${data} live=${words.get(id)} />
    ${data.messages && html`<${Messages} messages=${data.messages} reply=${data.reply} />`}
    ${!data.messages && html`<${Body} title="Input" body=${data.input} href=${`/api/effects/${id}/input`} />`}
    ${!data.reply && html`<${Body} title="Output" body=${data.output} href=${`/api/effects/${id}/output`} />`}
    <${Attempts} of=${data.attempts} span=${span} />
    <${Rights} data=${data} />
    <${Resources} of=${data.resources} />
    <${Probes} of=${data.probes} />
    ${forking && html`<${Fork} run=${run} at=${span.effect} effect=${data} close=${() => fork(false)} />`}
  `;
}

/** @param {any} data @param {any} run @returns {[string, any][]} */
function facts({ span, tokens, money: cost, queued, took, impact, label, operation, reply, tools, cached }, run) {
  const offset = span.start - (run.total?.start ?? run.started);
  return [
    ["began", `+${length(offset)}, ${clock(span.start)}`],
    ["took", length(took)],
    ["waited in line", queued > 0.001 ? length(queued) : null],
    ["attempts", span.attempts > 1 ? span.attempts : null],
    ["model", reply?.model ?? (span.kind === "generation" ? span.note : null)],
    [
      "tokens",
      tokens &&
        `${count(tokens.input)} in, ${count(tokens.output)} out${tokens.cache_read ? `, ${short(tokens.cache_read)} from the cache` : ""}${tokens.reasoning ? `, ${short(tokens.reasoning)} reasoning` : ""}`,
    ],
    ["cost", cost ? money(cost) : null],
    ["finished by", reply?.finish],
    ["answered", cached ? "from the cache of replies" : null],
    ["tools", tools?.length ? tools.join(", ") : null],
    ["place", span.place && html`<code title=${span.place}>${span.place.split("/").slice(-2).join("/")}</code>`],
    ["impact", impact === "none" ? null : impact],
    ["label", label],
    ["operation", operation],
  ];
}

/** @param {{ of: [string, any][] }} props */
const Facts = ({ of }) => html`<dl class="list">
  ${of.filter(([, value]) => value != null && value !== "" && value !== false).map(([name, value]) => html`<dt>
    ${name}</dt><dd>${value}</dd>`)}
</dl>`;

/** @param {{ error: any }} props */
const Wrong = ({ error }) => html`<div class="note bad"><p><b>${error.type}</b> ${error.message}</p>
  ${error.traceback && html`<details><summary>Traceback</summary><pre>${error.traceback}</pre></details>`}</div>`;

/** What a stream has said so far, while its generation goes on. @param {{ data: any, live: any }} props */
function Words({ data, live }) {
  const going = data.span.end === null;
  const before = going ? (data.stream ?? "") : "";
  const text = !live ? before : live.text.length >= before.length ? live.text : before;
  if (!going || (!text && !live?.reasoning)) return null;
  return html`<section class="stream"><div class="over"><h2>So far</h2><${State} state="running" words="streaming" />
    </div>
    ${live?.reasoning && html`<div class="said dim">${live.reasoning}</div>`}
    <div class="said" aria-live="off"><${Text} text=${text} /></div></section>`;
}

/** @param {{ of: any[], span: any }} props */
function Attempts({ of, span }) {
  if (!of?.length) return null;
  return html`<section><div class="over"><h2>Attempts that failed</h2></div><table>
    <tbody>${of.map((one) => html`<tr><td class="num">${one.number}</td>
      <td class="nowrap">+${length(one.at - span.start)}</td><td><span class="bad">
      ${one.error?.type}</span> ${one.error?.message}</td>
      <td class="num dim">again after ${length(one.again - one.at)}</td></tr>`)}</tbody>
  </table></section>`;
}

/** @param {{ data: any }} props */
function Rights({ data }) {
  const { capabilities = [], decisions = [], approvals = [] } = data;
  if (!capabilities.length && !decisions.length && !approvals.length) return null;
  return html`<section><div class="over"><h2>By which right</h2></div><ul class="plainlist">
    ${capabilities.map((one) => html`<li><span class="dim">capability ${one.number}</span> <code>${one.spec}</code>
      </li>`)}
    ${decisions.map((one) => html`<li class=${one.verdict === "deny" ? "bad" : ""}>${one.verdict} <code>
      ${one.action} ${one.resource}</code>
      ${one.by != null ? html` <span class="dim">by capability ${one.by}</span>` : null}</li>`)}
    ${approvals.map((one) => html`<li>approved ${one.verdict}${one.who ? ` by ${one.who}` : ""} <span class="dim">
      ${moment(one.at)}</span></li>`)}
  </ul></section>`;
}

/** @param {{ of: any }} props */
const Resources = ({ of }) =>
  of &&
  html`<section><div class="over"><h2>Resources</h2></div><${Facts} of=${[
    ["CPU", of.cpu_seconds != null ? length(of.cpu_seconds) : null],
    ["memory at most", of.memory_peak != null ? bytes(of.memory_peak) : null],
    ["read", of.read_bytes ? bytes(of.read_bytes) : null],
    ["written", of.written_bytes ? bytes(of.written_bytes) : null],
    ["stood still", of.paused_seconds ? length(of.paused_seconds) : null],
  ]} /></section>`;

/** What probes saw of it. @param {{ of: any[] }} props */
const Probes = ({ of }) =>
  of?.map(
    (one) => html`<section><div class="over"><h2>Probe <code>${one.probe}</code></h2>
      <span class="dim">${one.attempt > 1 ? `attempt ${one.attempt}, ` : ""}${one.of.split("/").pop()}</span></div><table>
    <thead><tr>${one.columns.map((/** @type {string} */ name) => html`<th>${name.replace("_", " ")}</th>`)}</tr></thead>
    <tbody>${one.rows.map((/** @type {any[]} */ row) => html`<tr>${row.map((cell) => html`<td class=${typeof cell === "number" ? "num" : ""}>
      ${Array.isArray(cell) ? cell.join(", ") : String(cell ?? "")}</td>`)}</tr>`)}</tbody>
  </table>
  ${one.left_out > 0 && html`<p class="dim">${count(one.left_out)} more rows</p>`}
  ${one.note && html`<p class="dim">${one.note}</p>`}</section>`,
  );
