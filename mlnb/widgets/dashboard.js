// The browser's half of the notebook's dashboard: says every few seconds that somebody looks, draws what the kernel sends.

const LOOKING_EVERY = 5000; // ms between two words to the kernel
const BUSY_AFTER = 3000; // ms without a word from the kernel
const SILENT = "The kernel is silent; this goes on when it is free.";

// plotly.js comes from the kernel and is kept for the page. It is a UMD file: the names it looks for are given to it.
function loadPlotly(model) {
  if (globalThis.__mlnbPlotly) return Promise.resolve(globalThis.__mlnbPlotly);
  return new Promise((resolve, reject) => {
    const receive = async (message, buffers) => {
      if (message.kind !== "plotly") return;
      model.off("msg:custom", receive);
      try {
        const stream = new Blob([buffers[0]]).stream().pipeThrough(new DecompressionStream("gzip"));
        const source = await new Response(stream).text();
        const url = URL.createObjectURL(new Blob([
          "const module = {exports: {}}, exports = module.exports, define = undefined;\n", source,
          "\nexport default module.exports;"], {type: "text/javascript"}));
        globalThis.__mlnbPlotly ??= (await import(url)).default;
        URL.revokeObjectURL(url);
        resolve(globalThis.__mlnbPlotly);
      } catch (error) {
        reject(new Error(`The chart could not be loaded: ${error.message}`));
      }
    };
    model.on("msg:custom", receive);
    model.send({action: "plotly"});
  });
}

function render({model, el}) {
  const card = document.createElement("div");
  card.className = "mlnb-card";
  card.dataset.lmSuppressShortcuts = "true"; // keys typed here are not for the notebook
  const root = document.createElement("div");
  card.append(root);
  el.append(card);
  let looking = 0;
  let heard = Date.now();
  let seen = false; // whether it is in sight
  let silent = true; // whether it says so
  const viewer = String(Math.random()); // several pages, or cells, may show one dashboard

  const board = openBoard(root, {
    ask: say, plotly: () => loadPlotly(model), model: model.get("chosen") || null, window: Number(model.get("seconds")),
  });

  board.tell("Waiting for the kernel…");

  function say(wanted) {
    model.send({action: "look", viewer, looked_at: true, ...wanted});
  }

  function receive(message, buffers) {
    if (message.kind !== "board" || message.viewer !== viewer) return;
    heard = Date.now();
    if (silent) board.tell("");
    silent = false;
    board.show(JSON.parse(new TextDecoder().decode(buffers[0])));
  }

  function look() {
    const now = seen && !document.hidden;
    if (now === Boolean(looking)) return;
    clearInterval(looking);
    looking = 0;
    if (!now) return model.send({action: "look", viewer, looked_at: false});
    heard = Date.now();
    say(board.request());
    looking = setInterval(() => {
      silent = Date.now() - heard > BUSY_AFTER;
      if (silent) board.tell(SILENT);
      say(board.request());
    }, LOOKING_EVERY);
  }

  const sight = new IntersectionObserver((entries) => {
    seen = entries.at(-1).isIntersecting;
    look();
  });
  model.on("msg:custom", receive);
  document.addEventListener("visibilitychange", look);
  sight.observe(card);
  return () => {
    seen = false;
    look();
    sight.disconnect();
    document.removeEventListener("visibilitychange", look);
    model.off("msg:custom", receive);
    board.close();
    card.remove();
  };
}

export default {render};
