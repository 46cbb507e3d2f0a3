// What all panels share: a card with regions that the kernel renders, and words between the page and the kernel.

const BUSY_AFTER = 1500; // ms without a word from the kernel until the panel says that it is busy

// What is typed, ticked and unfolded in a region stays when the kernel renders it anew, and so does the focus: what is
// the same has the same data-keep.
function setRegion(node, html) {
  if (node.dataset.shown === html) return;
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  const kept = new Map([...node.querySelectorAll("[data-keep]")].map((one) => [one.dataset.keep, one]));
  node.dataset.shown = html;
  node.innerHTML = html;
  for (const one of node.querySelectorAll("[data-keep]")) {
    const before = kept.get(one.dataset.keep);
    if (!before) continue;
    if ("open" in one) one.open = before.open;
    else if (one.type === "checkbox") one.checked = before.checked;
    else if (one.matches("select")) choose(one, before.value);
    else if (one.matches("input:not([type=range])")) one.value = before.value;
  }
  if (focused) same(node, focused)?.focus({preventScroll: true});
}

function choose(select, value) {
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

// The control of a region that is what another one was before.
function same(node, other) {
  const {keep, action} = other.dataset;
  if (keep) return node.querySelector(`[data-keep="${CSS.escape(keep)}"]`);
  if (!action) return null;
  const alike = [...node.querySelectorAll(`[data-action="${action}"]`)];
  return alike.find((one) => one.outerHTML === other.outerHTML) ??
    alike.find((one) => one.dataset.reference === other.dataset.reference) ?? alike[0];
}

// Lets the arrow keys go through `items()`; `reach` is told which one they come to.
function arrowKeys(list, items, reach, {forward = "ArrowRight", back = "ArrowLeft"} = {}) {
  list.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target.closest("button"));
    const to = {[forward]: at + 1, [back]: at - 1, Home: 0, End: all.length - 1}[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    reach(all[(to + all.length) % all.length]);
  });
}

// Puts a card with `skeleton` into `el`; each name in `regions` is a trait, and a [data-region] of the skeleton. One
// that is `held` stays as it is.
function openCard({
  model, el, skeleton, regions, kind = "", shown = () => {}, freed = () => {}, held = () => false,
}) {
  const card = document.createElement("div");
  card.className = `mlnb-card ${kind}`.trim();
  card.dataset.lmSuppressShortcuts = "true"; // keys typed here are not for the notebook
  card.innerHTML = skeleton;
  el.append(card);
  card.addEventListener("keydown", (event) => {
    // JupyterLab's notebook keeps the browser from submitting a form of its outputs on Enter.
    if (event.key !== "Enter" || event.isComposing || !event.target.matches("form input")) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });
  const find = (selector) => card.querySelector(selector);
  const listeners = [];
  let busy = 0;

  function on(name, listener) {
    listeners.push([name, listener]);
    model.on(name, listener);
  }

  function say(action, rest = {}) {
    clearTimeout(busy);
    if (!sent(model, {action, ...rest})) {
      tell(STARTED_AGAIN);
      return freed();
    }
    busy = setTimeout(() => {
      tell("The kernel is busy; this happens when the running cell ends.");
      freed();
    }, BUSY_AFTER);
  }

  // A word of the page's own, in the place of the kernel's last one.
  function tell(text) {
    const notice = find('[data-region="notice"]');
    notice.textContent = text;
    delete notice.dataset.shown; // so that the kernel's next word, even an empty one, replaces it
  }

  function show(name) {
    if (held(name)) return;
    setRegion(find(`[data-region="${name}"]`), model.get(name));
    shown(name);
  }

  // Puts back what a person has changed and the kernel has not.
  function restore(name) {
    delete find(`[data-region="${name}"]`).dataset.shown;
    show(name);
  }

  function start() {
    for (const name of [...regions, "notice"]) {
      on(`change:${name}`, () => show(name));
      show(name);
    }
    on("change:handled", () => {
      clearTimeout(busy);
      show("notice");
    });
    on("change:finished", freed);
  }

  function remove() {
    clearTimeout(busy);
    for (const [name, listener] of listeners) model.off(name, listener);
    card.remove();
  }

  return {card, find, on, say, tell, restore, start, remove};
}
