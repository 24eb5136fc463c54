/** The frame: which view a place shows, the way around, sign-in, and the keys that work everywhere. */
import { html, render, useEffect, useRef, useState } from "./vendor/preact.js";
import { about, ahead, folder, signIn, takeToken, useGet } from "./api.js";
import { help, useKeys } from "./keys.js";
import { useLink, useLive } from "./live.js";
import { Empty, later, Trouble } from "./parts.js";
import { go, place, to, usePlace } from "./router.js";
import { applyTheme, otherTheme } from "./theme.js";

/** @type {Record<string, () => Promise<{ View: any }>>} */
const CODE = {
  runs: () => import("./runs.js"),
  run: () => import("./run.js"),
  inbox: () => import("./inbox.js"),
  memory: () => import("./memory.js"),
  costs: () => import("./costs.js"),
  compare: () => import("./compare.js"),
};
const VIEWS = Object.fromEntries(Object.entries(CODE).map(([name, load]) => [name, later(load, "View")]));

/** @type {[string, string, string][]} view, words, key after g */
const WAYS = [
  ["runs", "Runs", "r"],
  ["inbox", "Inbox", "i"],
  ["memory", "Memory", "m"],
  ["costs", "Costs", "c"],
  ["compare", "Compare", "d"],
];

function App() {
  const here = usePlace();
  const server = useServer();
  const [helping, setHelping] = useState(false);
  const jump = useRef(0);
  const name = here.path[0] ?? "runs";
  useKeys(
    {
      "?": () => setHelping(true),
      t: otherTheme,
      g: () => (jump.current = Date.now()),
      ...Object.fromEntries(
        WAYS.map(([view, , key]) => [key, () => Date.now() - jump.current < 1200 && go(to([view]))]),
      ),
    },
    { ...Object.fromEntries(WAYS.map(([, words, key]) => [`g ${key}`, words])), t: "light or dark", "?": "this help" },
  );
  useEffect(() => {
    document.title = `${[here.path[0] ?? "runs", ...here.path.slice(1)].join(" ")} · Weft`;
  }, [here.path.join("/")]);
  if (server.signedOut) return html`<${SignIn} done=${server.again} />`;
  return html`
    <${Side} view=${name} server=${server.data} />
    <main id="main" tabindex="-1">
      ${server.error ? html`<div class="page"><${Trouble} error=${server.error} again=${server.again} />
        </div>` : null}
      ${server.data && html`<${Shown} name=${name} here=${here} server=${server.data} />`}
    </main>
    ${helping && html`<${Help} close=${() => setHelping(false)} />`}
  `;
}

/** What the server is; asked again after a sign-in. */
function useServer() {
  const [held, hold] = useState({ data: null, error: /** @type {Error | null} */ (null), signedOut: false });
  const again = () =>
    about().then(
      (data) =>
        hold({
          data: { ...data, offset: (data.now ?? Date.now() / 1000) - Date.now() / 1000 },
          error: null,
          signedOut: data.token_needed && !data.signed_in,
        }),
      (error) => hold({ data: null, error, signedOut: error.status === 401 }),
    );
  useEffect(() => {
    const out = () => hold((old) => ({ ...old, signedOut: true }));
    addEventListener("weft-signed-out", out);
    takeToken()
      .catch(() => {})
      .then(again);
    return () => removeEventListener("weft-signed-out", out);
  }, []);
  return { ...held, again };
}

/** @param {{ name: string, here: any, server: any }} props */
function Shown({ name, here, server }) {
  const View = VIEWS[name];
  if (!View)
    return html`<${Empty} title="There is no such page">The address may be from another Weft. <a href="#/runs">All runs</a>
      </${Empty}>`;
  return html`<${View} here=${here} server=${server} key=${name + (name === "run" ? here.path[1] : "")} />`;
}

/** @param {{ view: string, server: any }} props */
function Side({ view, server }) {
  const link = useLink();
  const inbox = useGet(server && !folder ? "/api/inbox" : null);
  useLive(server && !folder ? "/api/live" : null, { inbox: (data) => inbox.put(data), reset: inbox.again });
  const open = inbox.data?.items.length ?? 0;
  const shown = folder ? WAYS.filter(([name]) => name === "runs") : WAYS;
  return html`<header class="side">
    <a class="brand" href="#/runs">Weft</a>
    <nav aria-label="Views">
      ${shown.map(
        ([
          name,
          words,
        ]) => html`<a href=${`#/${name}`} aria-current=${(view === "run" ? "runs" : view) === name ? "page" : null}>
          ${words}${name === "inbox" && open > 0 && html` <span class="badge" title=${`${open} open`}>${open}</span>`}
        </a>`,
      )}
    </nav>
    <div class="foot">
      <span class=${`link-state ${link}`} role="status">
        ${{ live: "live", lost: "connecting …", folder: "saved run" }[link]}${server?.read_only ? ", read only" : ""}</span>
      <button class="plain" onClick=${otherTheme} aria-label="Light or dark" title="Light or dark (t)">◐</button>
    </div>
  </header>`;
}

/** @param {{ done: () => void }} props */
function SignIn({ done }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const submit = (event) => {
    event.preventDefault();
    signIn(token.trim()).then(done, setError);
  };
  return html`<main class="sign-in">
    <form onSubmit=${submit}>
      <h1>Weft</h1>
      <p class="dim">This server asks for its token. It was printed when the server started, or stands in $WEFT_WEB_TOKEN there.</p>
      <label class="field"><span>Token</span>
        <input type="password" autocomplete="current-password" autofocus value=${token} onInput=${(e) => setToken(e.target.value)} />
        </label>
      <p><button class="main" disabled=${!token.trim()}>Sign in</button></p>
      <${Trouble} error=${error} />
    </form>
  </main>`;
}

/** @param {{ close: () => void }} props */
function Help({ close }) {
  const at = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => at.current?.showModal(), []);
  return html`<dialog class="help" ref=${at} onClose=${close} aria-label="Keys" onClick=${(e) => e.target === at.current && e.target.close()}>
    <h1>Keys</h1>
    <dl>${help().map(([key, words]) => html`<dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>
      ${words}</dd>`)}</dl>
    <div class="buttons"><button onClick=${() => at.current?.close()}>Close</button></div>
  </dialog>`;
}

/** What the first view needs comes while its code does. */
function hurry() {
  const [name = "runs", id] = place().path;
  if (location.hash.startsWith("#token=")) return;
  ahead("/api/about");
  CODE[name]?.().catch(() => {}); // said when it is shown
  if (name !== "run" || !id) return;
  import("./timeline.js").catch(() => {});
  import("./scene.js").catch(() => {});
  ahead(`/api/runs/${id}`);
  ahead(`/api/runs/${id}/rows`, { from: 0, count: 200 });
}

applyTheme();
hurry();
const root = /** @type {HTMLElement} */ (document.getElementById("app"));
render(html`<${App} />`, root);
