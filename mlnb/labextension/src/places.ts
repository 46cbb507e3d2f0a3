// Where a deployment is reached from this page.

import type { Deployment } from './api';

export interface Place {
  /** Of Jupyter, ending with a slash. */
  readonly baseUrl: string;
  /** Whether Jupyter forwards to ports. */
  readonly proxy: boolean;
  /** The address of this page. */
  readonly page: string;
}

export const NO_PROXY = 'Install jupyter-server-proxy to open it here, then restart Jupyter:';
export const INSTALL_PROXY = 'pip install jupyter-server-proxy';

/** The URL that programs beside this browser ask: on loopback the port itself; null where there is none. */
export function publicUrl(one: Deployment, place: Place): string | null {
  if (isLocal(place)) {
    return one.url;
  }
  return place.proxy ? `${proxied(one, place)}models/${encodeURIComponent(one.name)}` : null;
}

/** Whether the browser is on the machine that it shows. */
export function isLocal(place: Place): boolean {
  return isLoopback(new URL(place.page).hostname);
}

/** A page of the server that has the deployment; null where this browser cannot reach it. */
export function serverPage(one: Deployment, path: string, place: Place): string | null {
  if (place.proxy) {
    return proxied(one, place) + path;
  }
  return isLocal(place) ? new URL(`/${path}`, one.url).href : null;
}

function proxied(one: Deployment, place: Place): string {
  return new URL(`proxy/${one.port}/`, new URL(place.baseUrl, place.page)).href;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || host.startsWith('127.') || host.endsWith('.localhost');
}
