/** A fork: a new run with this one's history up to an effect, which is made anew, or whose outcome is given by hand. */
import { html, useState } from "./vendor/preact.js";
import { post, useGet } from "./api.js";
import { Dialog } from "./parts.js";
import { go, to } from "./router.js";

/** @param {{ run: any, at: number | null, effect?: any, close: () => void }} props */
export function Fork({ run, at, effect, close }) {
  const [number, setNumber] = useState(at ?? 1);
  const [how, setHow] = useState(at === null ? "input" : "anew");
  const asked = useGet(effect || at === null ? null : `/api/effects/${run.id}:${at}`);
  const known = effect ?? asked.data;
  const [value, setValue] = useState(/** @type {string | null} */ (null));
  const [input, setInput] = useState(/** @type {string | null} */ (null));
  const text = (body) => (body && !body.cut ? JSON.stringify(body.value, null, 2) : "");
  const typed = { value: value ?? text(known?.output), input: input ?? text(run.input) };
  const start = async () => {
    const body = { at: number };
    if (how === "value") Object.assign(body, { value: parsed(typed.value, "outcome") });
    if (how === "input") Object.assign(body, { input: parsed(typed.input, "input") });
    const made = await post(`/api/runs/${run.id}/fork`, body);
    go(to(["run", made.run]));
  };
  const choice = (key, words) =>
    html`<label class="tick">
      <input type="radio" name="how" checked=${how === key} onChange=${() => setHow(key)} /> ${words}</label>`;
  return html`<${Dialog} title="Fork this run" action="Start the fork" go=${start} close=${close}>
    <p class="dim">A new run begins with this one's history; this one stays as it is.</p>
    <fieldset>
      <legend class="unseen">How the fork differs</legend>
      ${choice("anew", "Do an effect again, and what comes after it")}
      ${choice("value", "Give an effect another outcome")}
      ${choice("input", "Give the workflow another input")}
    </fieldset>
    <label><span>
      ${how === "value" ? "Effect" : "From effect"} number${known?.span?.effect === number ? ` (${known.span.name || known.span.kind})` : ""}${how === "input" ? ": the outcomes before it are kept, 1 keeps none" : ""}</span>
      <input type="number" min="1" required value=${number} onInput=${(e) => setNumber(e.target.valueAsNumber)} />
        </label>
    ${how === "value" && html`<label><span>Its outcome, as JSON</span>
      <textarea rows="8" spellcheck="false" value=${typed.value} onInput=${(e) => setValue(e.target.value)}>
      </textarea></label>`}
    ${how === "input" && html`<label><span>Input of the workflow, as JSON</span>
      <textarea rows="8" spellcheck="false" value=${typed.input} onInput=${(e) => setInput(e.target.value)}>
      </textarea></label>`}
  </${Dialog}>`;
}

/** @param {string} text @param {string} what */
function parsed(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The ${what} is no JSON: ${error.message}. Texts stand in double quotes.`);
  }
}
