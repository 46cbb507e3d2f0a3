// Beside what @jupyter/builder configures: TypeScript is read as it is, without a compiler of its own. Nothing of
// JupyterLab is installed for this, since all of it is shared by the page; the types are checked by `make lint`.
module.exports = {
  resolve: { extensions: ['.ts', '.tsx', '.js'] },
  module: {
    rules: [
      {
        test: /\.tsx?$/,
        type: 'javascript/auto',
        loader: 'builtin:swc-loader',
        options: { jsc: { target: 'es2022', parser: { syntax: 'typescript', tsx: true } } }
      }
    ]
  }
};
