// What the server extension answers, and how it is asked.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export interface Deployment {
  readonly process: string;
  readonly name: string;
  readonly url: string;
  readonly port: number;
  readonly notebook: string;
  readonly state: 'live' | 'silent';
  readonly place: string;
  readonly version: number | null;
  readonly previous: number | null;
  readonly rate: number | null;
  readonly p99: number | null;
  readonly errors: number | null;
  readonly recent: readonly number[];
  readonly alerts: number;
}

export interface Listing {
  readonly deployments: readonly Deployment[];
  readonly proxy: boolean;
  readonly trouble: string;
}

export interface Version {
  readonly number: number;
  readonly created: string;
  readonly description: string;
  readonly metrics: Readonly<Record<string, number | null>>;
  readonly aliases: readonly string[];
  readonly model_type: string;
}

export interface Model {
  readonly name: string;
  readonly aliases: Readonly<Record<string, number>>;
  readonly live: readonly number[];
  readonly versions: readonly Version[];
}

export interface Registry {
  readonly url: string;
  readonly title: string;
  readonly models: readonly Model[];
  readonly trouble: string;
}

export type Deed = 'rollback' | 'stop' | 'start';

/** What went wrong, in words for the person who reads it; `code` is what to type. */
export class Trouble extends Error {
  constructor(
    message: string,
    readonly code = ''
  ) {
    super(message);
  }
}

const UNSURE = 'Jupyter does not answer; the list shows whether it was done.';
const NO_LIST = 'The list cannot be shown; trying again.';
const LOGIN = 'Your login has ended; reload the page.';
const NOT_ENABLED = 'This Jupyter server does not know mlnb. In a terminal, then restart Jupyter:';
const FORBIDDEN = /^$|^Forbidden$|xsrf/i; // what Jupyter says to one who is not logged in
const PATIENCE = 20_000; // ms
const PATIENCE_OF_DEEDS = 40_000; // a kernel may take 30 s for them

/** No answer, or none of mlnb's. */
class Silence extends Trouble {
  constructor() {
    super('Jupyter does not answer; trying again.');
  }
}

export class Api {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  /** The address of Jupyter, ending with a slash. */
  get baseUrl(): string {
    return this.settings.baseUrl;
  }

  async deployments(signal: AbortSignal): Promise<Listing> {
    const listing = await this.ask<Listing>(['deployments'], {}, signal);
    if (!areObjects(listing.deployments)) {
      throw new Trouble(NO_LIST);
    }
    return listing;
  }

  async registries(signal: AbortSignal): Promise<readonly Registry[]> {
    const { registries } = await this.ask<{ registries: readonly Registry[] }>(['registry'], {}, signal);
    if (!areObjects(registries) || !registries.every(one => areObjects(one.models))) {
      throw new Trouble(NO_LIST);
    }
    return registries;
  }

  /** Let a process do something with one of its deployments; returns what it says it did. */
  async tell(deployment: Deployment, deed: Deed): Promise<string> {
    const body = JSON.stringify(deed === 'rollback' ? { version: deployment.version } : {});
    const parts = ['deployments', deployment.process, encodeURIComponent(deployment.name), deed];
    const signal = AbortSignal.timeout(PATIENCE_OF_DEEDS);
    try {
      return (await this.ask<{ notice: string }>(parts, { method: 'POST', body }, signal)).notice;
    } catch (error) {
      throw error instanceof Silence ? new Trouble(UNSURE) : error; // it is not asked again
    }
  }

  private async ask<T>(parts: string[], init: RequestInit, signal: AbortSignal): Promise<T> {
    const response = await this.request(URLExt.join(this.settings.baseUrl, 'mlnb', ...parts), { ...init, signal });
    const answer = await readJson(response);
    if (!response.ok) {
      throw troubleOf(response.status, answer);
    }
    if (answer === null) {
      throw new Trouble(LOGIN); // a page to log in at, in place of an answer
    }
    return answer as T;
  }

  private async request(url: string, init: RequestInit): Promise<Response> {
    try {
      return await ServerConnection.makeRequest(url, init, this.settings);
    } catch {
      throw new Silence();
    }
  }
}

/** A signal that also comes when nothing was answered for long. */
export function patient(signal: AbortSignal): AbortSignal {
  const both = new AbortController();
  const timer = setTimeout(() => both.abort(), PATIENCE);
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    both.abort();
  });
  return both.signal;
}

async function readJson(response: Response): Promise<object | null> {
  try {
    const answer: unknown = await response.json();
    return typeof answer === 'object' ? answer : null;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return null;
    }
    throw new Silence(); // it broke off
  }
}

function troubleOf(status: number, answer: object | null): Trouble {
  const message = answer !== null && 'message' in answer && typeof answer.message === 'string' ? answer.message : '';
  if (status === 401 || (status === 403 && FORBIDDEN.test(message))) {
    return new Trouble(LOGIN);
  }
  if (status === 404 && (message === '' || message === 'Not Found')) {
    return notEnabled();
  }
  return message ? new Trouble(message) : new Silence();
}

function areObjects(value: unknown): boolean {
  return Array.isArray(value) && value.every(one => typeof one === 'object' && one !== null);
}

function notEnabled(): Trouble {
  return new Trouble(NOT_ENABLED, 'jupyter server extension enable mlnb');
}
