// Shares in whole points that always add up to 100: one is moved `to` a value, the others keep their proportions.
function balanced(shares, at, to) {
  const others = shares.reduce((sum, share, one) => (one === at ? sum : sum + share), 0);
  let exact = 0;
  let given = 0;
  return shares.map((share, one) => {
    if (one === at) return to;
    exact += (100 - to) * (others ? share / others : 1 / (shares.length - 1));
    const points = Math.round(exact) - given;
    given += points;
    return points;
  });
}

// Keeps the range inputs of a region together. They are sent once they are let go of; by the keyboard, once it rests.
function sliders({card, changed, rest = 500}) {
  const all = () => [...card.querySelectorAll("input[data-version]")];
  let before = null; // the shares when one was taken, null while none is
  let waiting = 0;
  let keyed = false;

  function show(shares) {
    all().forEach((slider, one) => {
      slider.value = shares[one];
      slider.setAttribute("aria-valuetext", `${shares[one]} %`);
      card.querySelector(`[data-share="${slider.dataset.version}"]`).textContent = `${shares[one]} %`;
    });
  }

  function send() {
    waiting = 0;
    before = null;
    changed(Object.fromEntries(all().map((slider) => [slider.dataset.version, Number(slider.value)])));
  }

  card.addEventListener("pointerdown", () => { keyed = false; });
  card.addEventListener("keydown", (event) => {
    keyed = true;
    const step = {ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1}[event.key];
    if (!step || !event.target.matches("input[data-version]")) return;
    event.preventDefault(); // JupyterLab's notebook keeps the arrow keys from the inputs of its outputs
    event.target.value = Number(event.target.value) + step;
    for (const kind of ["input", "change"]) event.target.dispatchEvent(new Event(kind, {bubbles: true}));
  });
  card.addEventListener("input", ({target}) => {
    if (!target.matches("input[data-version]")) return;
    const at = all().indexOf(target);
    before ??= all().map((slider) => Number(slider.defaultValue));
    show(balanced(before, at, Number(target.value)));
  });
  card.addEventListener("change", ({target}) => {
    if (!target.matches("input[data-version]")) return;
    clearTimeout(waiting);
    waiting = setTimeout(send, keyed ? rest : 0);
  });

  return {
    moving: () => before !== null || waiting !== 0,
    stop: () => clearTimeout(waiting),
  };
}
