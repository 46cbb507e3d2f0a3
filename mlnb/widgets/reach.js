// Where this page reaches the kernel's server. The kernel renders its address on loopback, which a notebook stores; what
// the page shows in its place it has tried itself, since only the browser knows by which name it came here.

const PROBED_WITHIN = 2000; // ms
const TRIED_AGAIN = 3000; // ms
const TRIED_AT_MOST = 5; // times, until the server has another address
const SERVED_HERE = /^http:\/\/127\.0\.0\.1:\d+/;
const LOGIN = "Asks for your Jupyter login. Programs send a token of yours: Authorization: token …";

function jupyterBase() {
  try {
    return JSON.parse(document.getElementById("jupyter-config-data").textContent).baseUrl ?? "";
  } catch {
    return document.body.dataset.baseUrl ?? "";
  }
}

async function colabsUrl(port) {
  try {
    return (await globalThis.google.colab.kernel.proxyPort(port)) ?? "";
  } catch {
    return "";
  }
}

// Whether it is our server that answers there, and not another program on that port of this machine.
async function answersAt(root, instance) {
  try {
    const answer = await fetch(`${root}/livez?instance=${instance}`, {
      cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PROBED_WITHIN),
    });
    return (await answer.json()).instance === instance;
  } catch {
    return false;
  }
}

// `node` says in a line what is needed; `changed` is called when the card is to be rendered anew.
function findWay({model, card, node, on, changed}) {
  const asker = String(Math.random()); // a kernel's answer reaches all pages and cells that show the panel
  let url = ""; // on loopback
  let way = null; // the one that is shown
  let tried = 0;
  let waiting = false; // for the kernel, or for answers
  let timer = 0;

  function look() {
    const urls = [...card.querySelectorAll(".mlnb-url")].map((one) => one.textContent.match(SERVED_HERE)?.[0]);
    const shown = urls.find(Boolean);
    if (shown && shown !== url) {
      url = shown;
      way = null;
      tried = 0;
      say("");
    }
    if (url && !waiting && !way && tried < TRIED_AT_MOST) ask();
  }

  async function ask() {
    waiting = true;
    const forwarded = await colabsUrl(Number(url.split(":")[2]));
    sent(model, {action: "reach", asker, url, origin: location.origin, base_url: jupyterBase(), forwarded});
  }

  async function hear(message) {
    if (message.kind !== "ways" || message.asker !== asker) return;
    const {ways, instance, advice, live} = message;
    const found = await firstThatAnswers(ways, instance);
    waiting = false;
    if (message.url !== url) return look();
    if (!card.isConnected) return; // the next rendering looks again
    if (found) sent(model, {action: "reached", url, root: found.root});
    if (live) tried += 1;
    // What has a login of its own does not answer a page from elsewhere; whoever follows the link logs in.
    way = found ?? (tried > 1 ? ways.find((one) => one.kind === "forwarded") : null) ?? null;
    say(way?.kind === "jupyter" ? LOGIN : !way && tried > 1 ? advice : "");
    if (way) changed();
    else if (tried === 1) timer = setTimeout(look, TRIED_AGAIN); // it may have been busy
  }

  async function firstThatAnswers(ways, instance) {
    for (const one of ways) if (await answersAt(one.root, instance)) return one;
    return null;
  }

  function say(text) {
    node.textContent = text;
    node.hidden = !text;
  }

  // Puts the way that was found into what the kernel has rendered.
  function place(region) {
    if (!way || way.root === url) return;
    const put = (text) => text.replaceAll(url, way.root);
    for (const one of region.querySelectorAll(".mlnb-url")) one.textContent = put(one.textContent);
    for (const one of region.querySelectorAll("a[href]")) one.setAttribute("href", put(one.getAttribute("href")));
    for (const one of region.querySelectorAll("[data-copy]")) {
      const {copy, behindLogin} = one.dataset;
      one.dataset.copy = put(way.kind === "jupyter" && behindLogin ? behindLogin : copy);
    }
  }

  on("msg:custom", hear);
  return {look, place, stop: () => clearTimeout(timer)};
}
