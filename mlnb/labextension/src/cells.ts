// The cells that the sidebar writes, as text.

import type { Registry } from './api';

const LOAD = '%load_ext mlnb';

/** The code that deploys a version; a registry that is not the default one is named. */
export function deployCode(reference: string, registry: Registry, isDefault: boolean): string {
  if (isDefault) {
    return `%deploy_model ${reference}`;
  }
  return `import mlnb\nmlnb.deploy(${JSON.stringify(reference)}, registry=${JSON.stringify(registry.url)})`;
}

/** The same, after what a notebook with these cells still lacks for it. */
export function withExtension(code: string, cells: readonly string[]): string {
  const loaded = cells.some(cell => /^\s*%(re)?load_ext\s+mlnb\b/m.test(cell));
  return loaded || !code.startsWith('%') ? code : `${LOAD}\n${code}`;
}
