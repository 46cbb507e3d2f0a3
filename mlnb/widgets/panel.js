// The browser's half of a deployment's panel: puts the regions that the kernel renders in place, and says which button
// was pressed.

const TABS = [
  ["try", "Try it"], ["versions", "Versions"], ["traffic", "Traffic"], ["monitor", "Monitor"], ["scale", "Scale"],
  ["package", "Package"], ["card", "Card"],
];
const REGIONS = [
  "header", "address", "form", "result", "versions", "activity", "footer", "answering", "scale", "reason", "replicas",
  "faster", "card", "traffic", "rollout", "verdict", "choices", "shadow", "compared", "alarm", "watched",
  "package_form", "package_files", "package_deeds", "package_steps", "package_result",
];
const CHARTS = {monitor: "figure", traffic: "trial"}; // tabs with a chart in a trait
const CHARTED = {traffic: "trial", scale: "by_load"}; // tabs whose chart is not always there: the trait that says so
const LOOKED_AT = {monitor: "chart", scale: "memory", traffic: "compare"}; // tabs that cost something while they are looked at
const LOOKING_EVERY = 5000; // ms between two words to the kernel that a tab is looked at

const SKELETON = `
  <div class="mlnb-header" data-region="header"></div>
  <div class="mlnb-address" data-region="address"></div>
  <div class="mlnb-reach mlnb-muted" role="status" hidden></div>
  <div class="mlnb-alarm" data-region="alarm" role="status"></div>
  <pre class="mlnb-snippet" hidden></pre>
  <div class="mlnb-tabs" role="tablist">${TABS.map(([name, title]) =>
    `<button type="button" role="tab" data-tab="${name}" tabindex="-1">${title}</button>`).join("")}</div>
  <form class="mlnb-pane" role="tabpanel" data-pane="try" novalidate>
    <div data-region="form"></div>
    <div class="mlnb-try"><button type="submit" class="mlnb-primary">Predict</button><div data-region="result"></div></div>
  </form>
  <div class="mlnb-pane mlnb-scroll" role="tabpanel" data-pane="versions" data-region="versions"></div>
  <div class="mlnb-pane" role="tabpanel" data-pane="traffic">
    <div data-region="traffic"></div>
    <div data-region="rollout"></div>
    <div data-region="verdict"></div>
    <div class="mlnb-chart" data-chart="traffic" hidden><span class="mlnb-muted">Loading the chart…</span></div>
    <div data-region="choices"></div>
    <div data-region="shadow"></div>
    <div data-region="compared"></div>
  </div>
  <div class="mlnb-pane" role="tabpanel" data-pane="monitor">
    <div class="mlnb-chart" data-chart="monitor"><span class="mlnb-muted">Loading the chart…</span></div>
    <div data-region="activity"></div>
    <div class="mlnb-board" data-region="watched"></div>
  </div>
  <div class="mlnb-pane" role="tabpanel" data-pane="scale">
    <div data-region="answering"></div>
    <div data-region="scale"></div>
    <div data-region="reason"></div>
    <div class="mlnb-chart" data-chart="scale" hidden><span class="mlnb-muted">Loading the chart…</span></div>
    <div data-region="replicas"></div>
    <div data-region="faster"></div>
  </div>
  <div class="mlnb-pane" role="tabpanel" data-pane="package">
    <div data-region="package_form"></div>
    <div data-region="package_files"></div>
    <div data-region="package_deeds"></div>
    <div data-region="package_steps"></div>
    <div data-region="package_result"></div>
  </div>
  <div class="mlnb-pane mlnb-scroll" role="tabpanel" data-pane="card" data-region="card"></div>
  <div class="mlnb-footer"><div class="mlnb-figures" data-region="footer"></div>
    <div class="mlnb-notice" data-region="notice" role="status" aria-live="polite"></div></div>`;

function render({model, el}) {
  let looking = 0;
  let open = "try";
  let plotly = null; // a promise, once a chart was looked at
  const drawn = new Set();
  let replicas = null; // the chart of the Scale tab, which no notebook stores
  const {card, find, on, say, tell, restore, start, remove} = openCard({
    model, el, skeleton: SKELETON, regions: REGIONS, shown: mark,
    freed: () => predict.removeAttribute("aria-busy"),
    held: (name) => name === "traffic" && shares.moving(),
  });
  const way = findWay({model, card, on, node: find(".mlnb-reach"), changed: () => restore("address")});
  const shares = sliders({card, changed: (weights) => say("share_out", {weights})});
  const predict = find(".mlnb-try .mlnb-primary");

  function mark(name) {
    if (name === "header") way.look(); // from time to time, where nothing was found
    if (name === "address") {
      way.look();
      way.place(find('[data-region="address"]'));
    }
    if (name === "card" && open === "card" && !model.get("card")) say("card"); // another version is live by now
    if (name === "traffic") count();
    if (name !== "result") return;
    const wrong = find('[data-region="result"] .mlnb-failure')?.dataset.field;
    for (const input of card.querySelectorAll(".mlnb-field [name]")) {
      input.toggleAttribute("aria-invalid", Boolean(wrong) && input.name === wrong);
      if (wrong && input.name === wrong) input.closest("details")?.setAttribute("open", "");
    }
  }

  // What changes every second beside sliders is not rendered anew.
  function count() {
    const counts = model.get("counts");
    for (const cell of card.querySelectorAll("[data-value]")) cell.textContent = counts[cell.dataset.value] ?? "";
  }

  function openTab(name, {focus = false} = {}) {
    if (name !== open) look(false);
    open = name;
    for (const tab of card.querySelectorAll("[data-tab]")) {
      const chosen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) tab.focus();
    }
    for (const pane of card.querySelectorAll("[data-pane]")) pane.hidden = pane.dataset.pane !== name;
    if (name === "card") say("card");
    look(true);
    draw();
  }

  function look(now) {
    clearInterval(looking);
    const action = LOOKED_AT[open];
    if (!action) return;
    if (!now) return sent(model, {action, looked_at: false});
    say(action, {looked_at: true});
    looking = setInterval(() => sent(model, {action, looked_at: true}), LOOKING_EVERY);
  }

  async function draw() {
    const name = open;
    const chart = find(`[data-chart="${name}"]`);
    if (!chart) return;
    chart.hidden = name in CHARTED && !model.get(CHARTED[name]);
    if (chart.hidden || !figureOf(name)) return;
    plotly ??= loadPlotly(model);
    let library;
    try {
      library = await plotly;
    } catch (error) {
      plotly = null;
      chart.textContent = `The chart could not be loaded: ${error.message}`;
      return;
    }
    const figure = figureOf(name);
    if (open !== name || !figure || !card.isConnected) return;
    const style = getComputedStyle(card);
    const layout = {
      ...figure.layout,
      font: {...figure.layout.font, color: style.color, family: style.fontFamily},
      hoverlabel: {bgcolor: style.backgroundColor, font: {color: style.color}},
    };
    if (!drawn.has(chart)) chart.replaceChildren();
    drawn.add(chart);
    library.react(chart, figure.data, layout, {displayModeBar: false, responsive: true});
  }

  function figureOf(name) {
    if (name === "scale") return replicas;
    const figure = model.get(CHARTS[name]) && JSON.parse(model.get(CHARTS[name]));
    return figure && name === "monitor" ? {...figure, data: lately(figure)} : figure;
  }

  function hear(message, buffers) {
    if (message.kind !== "replicas") return;
    replicas = JSON.parse(new TextDecoder().decode(buffers[0]));
    draw();
  }

  function lately({data}) {
    const series = model.get("series");
    return data.map((trace) => (series.ago ? {...trace, x: series.ago, y: series[trace.name]} : trace));
  }

  async function copy(button) {
    const text = button.dataset.copy || button.closest("[data-copied]").querySelector("pre").textContent;
    const snippet = find(".mlnb-snippet");
    if (button.dataset.shown === "true") {
      snippet.hidden = !snippet.hidden && snippet.textContent === text;
      snippet.textContent = text;
    }
    try {
      await navigator.clipboard.writeText(text);
      tell("Copied.");
    } catch {
      tell("This page may not copy by itself; select the text instead.");
      snippet.textContent = text;
      snippet.hidden = false;
    }
  }

  function payload(button) {
    const {manner, to, least, most, target} = button.dataset;
    if (target) return {target};
    if (least) return {least: Number(least), most: Number(most)};
    if (manner) return {manner, to: Number(button.closest(".mlnb-add").querySelector("select").value)};
    return to ? {to: Number(to)} : {};
  }

  card.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.matches("[aria-disabled]")) return;
    if (button.dataset.tab) openTab(button.dataset.tab);
    else if (button.dataset.copy !== undefined) copy(button);
    else if (button.dataset.action && button.type !== "submit") say(button.dataset.action, payload(button));
  });
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    const action = (event.submitter ?? event.target).dataset.action ?? event.target.dataset.action;
    if (action) {
      if (!event.submitter?.matches("[aria-disabled]")) say(action, Object.fromEntries(new FormData(event.target)));
      return;
    }
    predict.setAttribute("aria-busy", "true");
    say("predict", {row: Object.fromEntries(new FormData(event.target))});
  });
  card.addEventListener("keydown", (event) => {
    const step = {ArrowUp: "more", ArrowDown: "fewer"}[event.key];
    if (!step || !event.target.matches('[role="spinbutton"]')) return;
    event.preventDefault();
    event.target.parentElement.querySelector(`[data-step="${step}"]`).click();
  });
  arrowKeys(find(".mlnb-tabs"), () => [...card.querySelectorAll("[data-tab]")],
    (tab) => openTab(tab.dataset.tab, {focus: true}));
  for (const name of ["scale", "package_form"]) {
    const region = find(`[data-region="${name}"]`);
    arrowKeys(region, () => [...region.querySelectorAll(".mlnb-choice button")], (choice) => choice.focus());
  }

  on("change:figure", draw);
  on("change:series", draw);
  on("change:trial", draw);
  on("change:by_load", draw);
  on("msg:custom", hear);
  on("change:counts", count);
  on("change:shared", () => restore("traffic"));
  start();
  openTab("try");
  return () => {
    look(false);
    way.stop();
    shares.stop();
    for (const chart of drawn) globalThis.__mlnbPlotly.purge(chart);
    remove();
  };
}

export default {render};
