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
        reject(error);
      }
    };
    model.on("msg:custom", receive);
    if (!sent(model, {action: "plotly"})) reject(new Error(STARTED_AGAIN));
  });
}
