// What the page says to the kernel. A kernel that was started again has no widget that could hear it.

const STARTED_AGAIN = "The kernel was started again and knows nothing of this panel: run its cell again.";

// Whether it could be said.
function sent(model, content) {
  try {
    model.send(content);
    return true;
  } catch {
    return false;
  }
}
