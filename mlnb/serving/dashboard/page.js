// The page in a browser: asks each second while somebody looks at it, and goes on by itself when the network was away.

const EVERY = 1000; // ms
const LONGEST = 5000; // ms between two tries
const PATIENCE = 8000; // ms until an answer is given up
const HERE = location.origin + location.pathname; // fetch refuses an address with a password: http://me:TOKEN@host

const place = new URLSearchParams(location.hash.slice(1));
let turn = 0; // of the asking: an answer to an older one is let go
let failures = 0;
let timer = 0;

function loadPlotly() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "dashboard/plotly.js";
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error(
      "The charts need plotly where the model is served: pip install plotly. The tables do without."));
    document.head.append(script);
  });
}

const board = openBoard(document.querySelector("main"), {
  ask: (wanted) => {
    remember(wanted);
    poll();
  },
  plotly: loadPlotly,
  model: place.get("model"),
  window: place.get("window") === "3600" ? 3600 : 300,
});

function remember({model, window: seconds}) {
  const chosen = new URLSearchParams(model ? {model, window: seconds} : {window: seconds});
  history.replaceState(null, "", `#${chosen}`);
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  const mine = ++turn;
  const {model, window: seconds, known} = board.request();
  try {
    const asked = new URLSearchParams({model: model ?? "", window: seconds, known});
    const answer = await fetch(new URL(`dashboard/data?${asked}`, HERE), {cache: "no-store", signal: AbortSignal.timeout(PATIENCE)});
    if (!answer.ok) throw new Error(`${answer.status}`);
    const message = await answer.json();
    if (mine !== turn) return;
    if (failures) board.tell("");
    failures = 0;
    board.show(message);
    document.title = message.model ? `${message.model} · mlnb` : "mlnb dashboard";
  } catch {
    if (mine !== turn) return;
    failures += 1;
    board.tell("Connection lost, trying again.");
  }
  timer = setTimeout(poll, failures ? Math.min(EVERY * 2 ** (failures - 1), LONGEST) : EVERY);
}

document.addEventListener("visibilitychange", poll);
addEventListener("online", poll);
poll();
