// The browser's half of the notebook's dashboard: says every few seconds that somebody looks, draws what the kernel sends.

const LOOKING_EVERY = 5000; // ms between two words to the kernel
const BUSY_AFTER = 3000; // ms without a word from the kernel
const SILENT = "The kernel is silent; this goes on when it is free.";

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
    if (sent(model, {action: "look", viewer, looked_at: true, ...wanted})) return;
    clearInterval(looking);
    looking = 0;
    board.tell(STARTED_AGAIN);
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
    if (!now) return sent(model, {action: "look", viewer, looked_at: false});
    heard = Date.now();
    looking = setInterval(() => {
      silent = Date.now() - heard > BUSY_AFTER;
      if (silent) board.tell(SILENT);
      say(board.request());
    }, LOOKING_EVERY);
    say(board.request());
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
