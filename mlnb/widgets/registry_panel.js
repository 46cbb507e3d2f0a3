// The browser's half of the registry's panel. The filter and the ticks are the page's own; all else the kernel renders.

const REGIONS = ["header", "models", "title", "versions", "legend", "comparison", "detail", "read"];
const FILTERED_FROM = 9; // models

const SKELETON = `
  <div class="mlnb-header" data-region="header"></div>
  <div class="mlnb-body">
    <div class="mlnb-side">
      <input type="search" class="mlnb-filter" placeholder="Filter models" aria-label="Filter models" hidden>
      <nav class="mlnb-models" aria-label="Models" data-region="models"></nav>
      <p class="mlnb-muted mlnb-none" hidden>No model is named like that.</p>
    </div>
    <div class="mlnb-main">
      <div class="mlnb-header mlnb-title" data-region="title"></div>
      <div class="mlnb-table mlnb-scroll" data-region="versions"></div>
      <div class="mlnb-compare"><button type="button" disabled>Compare</button><span class="mlnb-muted"></span>
        <small class="mlnb-muted" data-region="legend"></small></div>
      <section class="mlnb-comparison mlnb-scroll" aria-label="Comparison" data-region="comparison"></section>
      <section class="mlnb-detail mlnb-scroll" aria-label="Version" data-region="detail"></section>
    </div>
  </div>
  <div class="mlnb-reach mlnb-muted" role="status" hidden></div>
  <div class="mlnb-footer"><div class="mlnb-notice" data-region="notice" role="status" aria-live="polite"></div>
    <small class="mlnb-muted" data-region="read"></small></div>`;

function render({model, el}) {
  const {card, find, on, restore, say, start, remove} = openCard({
    model, el, skeleton: SKELETON, regions: REGIONS, kind: "mlnb-registry", shown: follow, freed: () => {
      for (const one of card.querySelectorAll("[aria-busy]")) one.removeAttribute("aria-busy");
    },
  });
  const way = findWay({
    model, card, on, node: find(".mlnb-reach"), changed: () => ["title", "notice"].forEach(restore),
  });
  const filter = find(".mlnb-filter");
  const compare = find(".mlnb-compare button");
  let started = false;
  let ticked = []; // of at most two versions, the one ticked last at the end

  const all = () => [...card.querySelectorAll(".mlnb-model")];
  const chosen = () => find('.mlnb-model[aria-current="true"]');
  const ticks = () => [...card.querySelectorAll("[data-tick]")];

  function follow(name) {
    if (name === "title" || name === "notice") {
      way.look();
      way.place(find(`[data-region="${name}"]`));
    }
    if (name === "models") sift();
    if (name === "versions") tick();
    if (name === "detail" || name === "comparison") reveal(find(`[data-region="${name}"]`));
  }

  function sift() {
    const wanted = filter.value.trim().toLowerCase();
    for (const one of all()) one.hidden = !one.dataset.model.toLowerCase().includes(wanted);
    filter.hidden = all().length < FILTERED_FROM && !wanted;
    const left = all().filter((one) => !one.hidden);
    find(".mlnb-none").hidden = left.length > 0 || !wanted;
    for (const one of all()) one.tabIndex = -1;
    const entry = left.find((one) => one === chosen()) ?? left[0];
    if (entry) entry.tabIndex = 0;
  }

  function tick() {
    const now = ticks().filter((one) => one.checked).map((one) => one.dataset.tick);
    ticked = [...ticked.filter((one) => now.includes(one)), ...now.filter((one) => !ticked.includes(one))].slice(-2);
    for (const one of ticks()) one.checked = ticked.includes(one.dataset.tick);
    const [first, second] = [...ticked].sort((one, other) => one - other);
    compare.disabled = ticked.length < 2;
    compare.textContent = second ? `Compare v${first} with v${second}` : "Compare";
    compare.hidden = ticks().length < 2;
    find(".mlnb-compare span").textContent = second || compare.hidden ? "" : "Tick two versions to compare them; click on one for its card.";
  }

  // What was asked for comes into sight; what is only rendered anew stays where it is.
  function reveal(node) {
    const what = node.querySelector("[data-reference]")?.dataset.reference ?? "";
    const before = node.dataset.what;
    node.dataset.what = what;
    if (!what && before && !card.contains(document.activeElement)) {
      find(`[data-keep="open ${CSS.escape(before)}"]`)?.focus({preventScroll: true}); // it was closed from within
    }
    if (!what || what === before || !started) return;
    node.scrollTop = 0;
    node.scrollIntoView({block: "nearest"});
  }

  card.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button === compare) {
      say("compare", {model: chosen().dataset.model, one: ticked[0], other: ticked[1]});
    } else if (button?.dataset.action) {
      const {action, keep, ...rest} = button.dataset;
      button.setAttribute("aria-busy", "true");
      say(action, rest);
    }
  });
  card.addEventListener("change", (event) => event.target.dataset.tick && tick());
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    say("alias", {
      reference: form.dataset.reference, alias: form.elements.alias.value, known: JSON.parse(form.dataset.known),
    });
  });
  filter.addEventListener("input", sift);
  arrowKeys(find(".mlnb-models"), () => all().filter((one) => !one.hidden), (one) => one.focus(),
    {forward: "ArrowDown", back: "ArrowUp"});

  start();
  started = true;
  if (!model.get("header")) sent(model, {action: "refresh"}); // inside another widget nobody has displayed it by itself
  return () => {
    way.stop();
    remove();
  };
}

export default {render};
