// What the buttons do. Each ends with a line that says what was done, or why it was not.

import { Clipboard, MainAreaWidget } from '@jupyterlab/apputils';
import { NotebookActions } from '@jupyterlab/notebook';
import { IFrame } from '@jupyterlab/ui-components';

import { Api, type Deed, type Deployment, type Registry, Trouble } from './api';
import { deployCode, withExtension } from './cells';
import { modelsIcon } from './icons';
import { INSTALL_PROXY, isLocal, NO_PROXY, type Place, publicUrl, serverPage } from './places';
import type { Surroundings } from './sidebar';
import { Store } from './store';

export interface Notice {
  readonly text: string;
  readonly code: string;
  /** What follows the code. */
  readonly more: string;
  /** Set where it can be undone. */
  readonly stopped: Deployment | null;
  /** Counts, so that the same words twice are two notices. */
  readonly number: number;
}

const BUSY: Record<Deed, string> = { rollback: 'Rolling back…', stop: 'Stopping…', start: 'Starting…' };

/** What names a deployment among all. */
export function keyOf(one: Deployment): string {
  return `${one.process} ${one.name}`;
}

export class Doing {
  constructor(
    private readonly surroundings: Surroundings,
    private readonly api: Api,
    private readonly hasProxy: () => boolean,
    private readonly changed: () => void
  ) {}

  readonly notice = new Store<Notice | null>(null);

  /** What is being done to which deployment. */
  readonly busy = new Store<Readonly<Record<string, string>>>({});

  say(text: string, code = '', { more = '', stopped = null }: Partial<Pick<Notice, 'more' | 'stopped'>> = {}): void {
    this.notice.set({ text, code, more, stopped, number: (this._notices += 1) });
  }

  /** Stop, start or roll back. */
  async tell(one: Deployment, deed: Deed): Promise<void> {
    const key = keyOf(one);
    if (key in this.busy.value()) {
      return;
    }
    this.busy.set({ ...this.busy.value(), [key]: BUSY[deed] });
    try {
      const told = await this.api.tell(one, deed);
      this.say(told || 'Done.', '', { stopped: deed === 'stop' ? one : null });
    } catch (error) {
      this.say(error instanceof Trouble ? error.message : `${one.name}: that did not work; see Jupyter's log.`);
    }
    const { [key]: _, ...others } = this.busy.value();
    this.busy.set(others);
    this.changed();
  }

  /** Show the dashboard in a tab of the main area, or of the browser where that has no tabs. */
  dashboard(one: Deployment): void {
    const url = this.page(one, `dashboard#model=${encodeURIComponent(one.name)}`);
    if (url === null) {
      return;
    }
    if (!this.surroundings.tabs || !this.hasProxy()) {
      window.open(url, '_blank', 'noopener');
      return;
    }
    const { shell } = this.surroundings.app;
    const id = `mlnb-dashboard-${keyOf(one).replace(' ', '-')}`;
    let tab = this._dashboards.get(id);
    if (!tab || tab.isDisposed) {
      tab = dashboardTab(one, id, url);
      this._dashboards.set(id, tab);
      shell.add(tab, 'main');
    } else if (tab.content.url !== url) {
      tab.content.url = url; // it has another port by now
    }
    shell.activateById(id);
  }

  docs(one: Deployment): void {
    const url = this.page(one, 'docs');
    if (url !== null) {
      window.open(url, '_blank', 'noopener');
    }
  }

  copyUrl(one: Deployment): void {
    const place = this.place();
    const url = publicUrl(one, place);
    if (url === null) {
      this.say(NO_PROXY, INSTALL_PROXY);
      return;
    }
    Clipboard.copyToSystem(url);
    this.say('Copied:', url, isLocal(place) ? {} : { more: 'Programs send Authorization: token …' });
  }

  async openNotebook(one: Deployment): Promise<void> {
    try {
      await this.surroundings.app.commands.execute('docmanager:open', { path: one.notebook });
    } catch {
      this.say(`${one.notebook} cannot be opened; it may have been moved or deleted.`);
    }
  }

  /** Insert the cell that deploys a version, below the active one of the notebook in front, and run nothing. */
  insert(reference: string, registry: Registry, isDefault: boolean): void {
    const code = deployCode(reference, registry, isDefault);
    const panel = this.surroundings.notebooks?.currentWidget;
    const notebook = panel?.content;
    if (!panel || !notebook?.model || notebook.model.readOnly) {
      Clipboard.copyToSystem(code);
      this.say('Open a notebook first. The cell to run there is copied:', code);
      return;
    }
    const cells = notebook.widgets.map(cell => cell.model.sharedModel.getSource());
    NotebookActions.insertBelow(notebook);
    notebook.activeCell?.model.sharedModel.setSource(withExtension(code, cells));
    this.surroundings.app.shell.activateById(panel.id);
    this.say('Inserted below the active cell; run it to deploy:', code);
  }

  private page(one: Deployment, path: string): string | null {
    const url = serverPage(one, path, this.place());
    if (url === null) {
      this.say(NO_PROXY, INSTALL_PROXY);
    }
    return url;
  }

  private place(): Place {
    return { baseUrl: this.api.baseUrl, proxy: this.hasProxy(), page: window.location.href };
  }

  private _dashboards = new Map<string, MainAreaWidget<IFrame>>();
  private _notices = 0;
}

/** The page is mlnb's own, under Jupyter's origin: without that origin it could not log in at Jupyter's proxy. */
function dashboardTab(one: Deployment, id: string, url: string): MainAreaWidget<IFrame> {
  const content = new IFrame({ sandbox: ['allow-scripts', 'allow-same-origin', 'allow-downloads', 'allow-popups'] });
  content.addClass('mlnb-side-page');
  content.url = url;
  const tab = new MainAreaWidget({ content });
  tab.toolbar.hide();
  tab.id = id;
  tab.title.label = one.name;
  tab.title.caption = `Dashboard of ${one.name}`;
  tab.title.icon = modelsIcon;
  tab.title.closable = true;
  content.node.querySelector('iframe')?.setAttribute('title', tab.title.caption);
  return tab;
}
