/** A question to people, and the answer: buttons for an approval, fields after its schema for a question. */
import { html, useState } from "./vendor/preact.js";
import { post } from "./api.js";
import { bare, length } from "./format.js";
import { Ago, Trouble } from "./parts.js";
import { to } from "./router.js";

/** @type {Record<string, string>} */
const VERDICTS = { once: "Allow once", always: "Allow always", never: "Deny" };

/** @param {{ one: any, server: any, within?: boolean, chosen?: boolean }} props `within`: on the page of the run that asks */
export function Question({ one, server, within = false, chosen = false }) {
  const [state, set] = useState({ busy: false, done: "", error: /** @type {Error | null} */ (null) });
  const answer = async (body) => {
    set({ busy: true, done: "", error: null });
    try {
      const { state: now } = await post(`/api/inbox/${encodeURIComponent(one.id)}/answer`, body);
      set({
        busy: true,
        done: now === "interrupted" ? "Answered. Nobody executes the run now: resume it." : "Answered.",
        error: null,
      });
    } catch (error) {
      set({ busy: false, done: "", error: error });
    }
  };
  const unsaid = (one.requests ?? []).filter((wish) => !one.text.includes(`${wish.action} ${wish.resource}`));
  return html`<article class=${`question ${chosen ? "chosen" : ""}`} data-id=${one.id}>
    <div class="over">
      <span class="tag">${one.kind}</span>
      ${!within && html`<a href=${to(["run", one.run], { effect: one.id })}>${bare(one.workflow)}</a>`}
      <span class="dim"><${Ago} at=${one.asked} />
        ${one.expires ? `, expires in ${length(Math.max(0, one.expires - Date.now() / 1000 - server.offset))}` : ""}${one.queue && one.queue !== "default" ? `, to ${one.queue}` : ""}</span>
    </div>
    <p class="asked">${one.text}</p>
    ${unsaid.length > 0 && html`<ul class="plainlist">${unsaid.map((wish) => html`<li><code>
      ${wish.action} ${wish.resource}</code></li>`)}</ul>`}
    ${one.label && html`<p class="dim">It would carry ${one.label} to ${one.sinks?.map((sink) => `${sink.action} ${sink.resource}`).join(", ")}.</p>`}
    ${one.arguments && html`<pre class="text">${one.arguments}</pre>`}
    ${one.rejected && html`<p class="bad">The last answer was none: ${one.rejected}</p>`}
    ${
      server.read_only
        ? html`<p class="dim">This server only shows. Answer with <code>weft answer</code>.</p>`
        : state.done
          ? html`<p class="note" role="status">${state.done}</p>`
          : html`<${Answer} one=${one} busy=${state.busy} answer=${answer} />`
    }
    <${Trouble} error=${state.error} />
  </article>`;
}

/** @param {{ one: any, busy: boolean, answer: (body: object) => void }} props */
function Answer({ one, busy, answer }) {
  if (one.verdicts)
    return html`<div class="acts">${one.verdicts.map(
      (verdict) =>
        html`<button disabled=${busy} class=${verdict === "once" ? "main" : verdict === "never" ? "danger" : ""} onClick=${() => answer({ value: verdict })}>
          ${VERDICTS[verdict] ?? verdict}</button>`,
    )}</div>`;
  const schema = one.schema ?? {};
  const choices = schema.type === "boolean" ? [true, false] : schema.enum;
  if (choices && choices.length <= 8)
    return html`<div class="acts">
      ${choices.map((choice) => html`<button disabled=${busy} onClick=${() => answer({ value: choice })}>
      ${choice === true ? "Yes" : choice === false ? "No" : String(choice)}</button>`)}</div>`;
  if (schema.type === "object" && flat(schema))
    return html`<${Fields} schema=${schema} busy=${busy} answer=${answer} />`;
  return html`<${Line} one=${one} busy=${busy} answer=${answer} />`;
}

/** Whether each of its fields is one field of a form. @param {any} schema */
const flat = (schema) =>
  Object.values(schema.properties ?? {}).every(
    (one) => ["string", "number", "integer", "boolean"].includes(one.type) || one.enum,
  );

/** @param {{ one: any, busy: boolean, answer: (body: object) => void }} props */
function Line({ one, busy, answer }) {
  const [text, type] = useState("");
  const submit = (event) => (event.preventDefault(), answer({ text }));
  const long = !["number", "integer"].includes(one.schema?.type);
  const send = (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(event);
  return html`<form class="answer" onSubmit=${submit}>
    ${
      long
        ? html`<textarea rows="2" aria-label="Answer" placeholder=${`Takes ${one.takes}`} value=${text} onInput=${(e) => type(e.target.value)} onKeyDown=${send}>
          </textarea>`
        : html`<input inputmode="decimal" aria-label="Answer" placeholder=${`Takes ${one.takes}`} value=${text} onInput=${(e) => type(e.target.value)} />`
    }
    <button class="main" disabled=${busy || !text}>Answer</button>
  </form>`;
}

/** @param {{ schema: any, busy: boolean, answer: (body: object) => void }} props */
function Fields({ schema, busy, answer }) {
  const [held, hold] = useState(/** @type {Record<string, any>} */ ({}));
  const put = (name, value) => hold({ ...held, [name]: value });
  const submit = (event) => (event.preventDefault(), answer({ value: held }));
  return html`<form class="answer fields" onSubmit=${submit}>
    ${Object.entries(schema.properties).map(([name, one]) => html`<label class="field"><span>
      ${one.title ?? name}</span>
      <${Field} one=${one} value=${held[name]} needed=${schema.required?.includes(name)} put=${(value) => put(name, value)} />
      </label>`)}
    <button class="main" disabled=${busy}>Answer</button>
  </form>`;
}

/** @param {{ one: any, value: any, needed: boolean, put: (value: any) => void }} props */
function Field({ one, value, needed, put }) {
  if (one.enum)
    return html`<select required=${needed} value=${value ?? ""} onChange=${(e) => put(e.target.value)}>
      <option value=""></option>${one.enum.map((choice) => html`<option>${choice}</option>`)}</select>`;
  if (one.type === "boolean")
    return html`<input type="checkbox" checked=${value ?? false} onChange=${(e) => put(e.target.checked)} />`;
  const numeric = one.type !== "string";
  return html`<input type=${numeric ? "number" : "text"} step=${one.type === "integer" ? 1 : "any"} required=${needed} value=${value ?? ""} onInput=${(e) => put(numeric ? e.target.valueAsNumber : e.target.value)} />`;
}
