// The dashboard itself, in a notebook as in a page of its own: puts the regions in place that Python renders, and draws
// the figure, whose form comes once and whose values come each second.

const REGIONS = ["status", "glance", "alerts", "figures", "quality", "drift", "history"];
const BOARD = `
  <div class="mlnb-wide" data-region="glance"></div>
  <header class="mlnb-head"><div data-region="status"></div>
    <div class="mlnb-windows" role="group" aria-label="Time shown" hidden>
      <button type="button" data-window="300">5 minutes</button><button type="button" data-window="3600">1 hour</button>
    </div></header>
  <div class="mlnb-told" data-region="told" role="status" aria-live="polite"></div>
  <section data-region="alerts" aria-label="Alerts"></section>
  <section data-region="figures" aria-label="Figures"></section>
  <div class="mlnb-figure" role="img" aria-label="What it did over time" hidden></div>
  <section data-region="quality" aria-label="Quality"></section>
  <section data-region="drift" aria-label="Drift"></section>
  <section data-region="history" aria-label="What happened"></section>`;

// `ask(wanted)` is called when a person wants to see something else; `plotly()` gives a promise of plotly.js.
function openBoard(root, {ask, plotly, model = null, window: seconds = 300}) {
  root.classList.add("mlnb-board");
  root.innerHTML = BOARD;
  const find = (selector) => root.querySelector(selector);
  const chart = find(".mlnb-figure");
  let wanted = {model, window: seconds};
  let form = null; // of the figure, and its key
  let known = "";
  let library = null;
  let broken = false; // no figure can be drawn here
  let closed = false;

  function place(name, html) {
    const node = find(`[data-region="${name}"]`);
    if (node.dataset.shown === html) return;
    const kept = new Map([...node.querySelectorAll("[data-keep]")].map((one) => [one.dataset.keep, one]));
    const focus = node.contains(document.activeElement) ? document.activeElement.closest("[data-keep]")?.dataset.keep : "";
    node.dataset.shown = html;
    node.innerHTML = html;
    for (const one of node.querySelectorAll("details[data-keep]")) one.open = kept.get(one.dataset.keep)?.open ?? false;
    if (focus) {
      const again = find(`[data-keep="${CSS.escape(focus)}"]`);
      (again?.querySelector("summary") ?? again)?.focus({preventScroll: true});
    }
  }

  function mark() {
    for (const button of root.querySelectorAll("[data-window]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.window) === wanted.window));
    }
  }

  function choose(change) {
    wanted = {...wanted, ...change};
    mark();
    tell("");
    ask(request());
  }

  const request = () => ({...wanted, known});

  function tell(text) {
    find('[data-region="told"]').textContent = text;
  }

  function show(message) {
    if (message.window !== wanted.window || (wanted.model && !message.gone && message.model !== wanted.model)) return;
    if (message.gone) {
      tell(`${wanted.model} is not served here any more.`);
      wanted = {...wanted, model: null};
    }
    for (const name of REGIONS) place(name, message.regions[name] ?? "");
    chart.hidden = !message.data || broken;
    find(".mlnb-windows").hidden = !message.data;
    if (!message.data) return;
    if (message.spec) {
      form = message.spec;
      known = message.key;
    }
    if (known === message.key) draw(message.data);
    else known = ""; // its form comes with the next one
  }

  async function draw(data) {
    if (broken) return;
    const drawn = form;
    try {
      library ??= plotly();
      await library;
    } catch (error) {
      library = null;
      broken = true;
      chart.hidden = true;
      tell(error.message);
      return;
    }
    if (closed || drawn !== form) return;
    const style = getComputedStyle(root);
    const traces = drawn.data.map((trace) => ({
      ...trace, x: data.x, y: data.y[trace.uid], hovertemplate: hover(trace, data.y[trace.uid]),
      ...(data.points.includes(trace.uid) ? {mode: "lines+markers"} : {}),
    }));
    const layout = {
      ...drawn.layout, ...data.layout,
      font: {...drawn.layout.font, color: style.color, family: style.fontFamily},
      hoverlabel: {bgcolor: style.backgroundColor, font: {color: style.color, size: 11}},
    };
    (await library).react(chart, traces, layout, {displayModeBar: false, responsive: true});
  }

  // In a stack, plotly.js takes what is missing for 0, and would say so.
  function hover({hovertemplate: template, stackgroup}, values) {
    if (!stackgroup || !values.includes(null)) return template;
    const none = template.replace(/^.*?(?=<extra>)/, "—");
    return values.map((value) => (value === null ? none : template));
  }

  function click(event) {
    const button = event.target.closest("button");
    if (button?.dataset.model !== undefined) choose({model: button.dataset.model});
    else if (button?.dataset.window) choose({window: Number(button.dataset.window)});
  }

  async function close() {
    closed = true;
    root.removeEventListener("click", click);
    (await library?.catch(() => null))?.purge(chart);
  }

  root.addEventListener("click", click);
  mark();
  return {show, tell, close, request, choose};
}
