/** A conversation with a model: what it was given, and what it said. */
import { html } from "./vendor/preact.js";
import { Value } from "./value.js";
import { Text } from "./value.js";

/** @param {{ messages: any[], reply: any }} props */
export function Messages({ messages, reply }) {
  return html`<section class="talk">
    <div class="over"><h2>Messages</h2><span class="dim">${messages.length}</span></div>
    ${
      messages.length > 6 &&
      html`<details><summary class="dim">${messages.length - 4} earlier messages</summary>
        ${messages.slice(0, -4).map(shown)}</details>`
    }
    ${(messages.length > 6 ? messages.slice(-4) : messages).map(shown)}
    ${reply && shown({ role: "assistant", parts: reply.parts, reply: true }, -1)}
  </section>`;
}

/** @param {any} message @param {number} n */
const shown = (message, n) =>
  html`<article key=${n} class=${`message ${message.role} ${message.reply ? "reply" : ""}`}>
    <h3>${message.reply ? "reply" : message.role}${message.name ? html` <span class="dim">
      ${message.name}</span>` : null}</h3>
    ${message.parts.map((part, at) => html`<${Part} key=${at} part=${part} />`)}
  </article>`;

/** @param {{ part: any }} props */
function Part({ part }) {
  switch (part.type) {
    case "text":
    case "refusal":
      return html`<div class="said"><${Text} text=${part.content ?? part.text ?? ""} />
        ${part.cut ? html`<span class="dim"> (cut)</span>` : null}</div>`;
    case "reasoning":
      return html`<details class="thought"><summary class="dim">reasoning</summary><div class="said">
        <${Text} text=${part.content ?? ""} /></div></details>`;
    case "tool_call":
      return html`<div class="call"><b class="mono">${part.name}</b> <span class="dim mono">${part.id}</span>
        <${Value} value=${part.arguments} /></div>`;
    case "tool_call_response":
      return html`<div class="call"><span class="dim">result of</span> <b class="mono">${part.name ?? part.id}</b>
        <${Value} value=${part.result ?? part.response} /></div>`;
  }
  return html`<div class="call"><span class="dim">${part.type}</span><${Value} value=${part} /></div>`;
}
