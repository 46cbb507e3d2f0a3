// The sidebar as a widget: it knows whether somebody can see it.

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { INotebookTracker } from '@jupyterlab/notebook';
import { ReactWidget } from '@jupyterlab/ui-components';
import { Signal } from '@lumino/signaling';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import { modelsIcon } from './icons';

/** What the sidebar has of the application around it. */
export interface Surroundings {
  readonly app: JupyterFrontEnd;
  readonly notebooks: INotebookTracker | null;
  /** Whether the main area has tabs, as JupyterLab's has and Notebook 7's has not. */
  readonly tabs: boolean;
}

const Panel = React.lazy(() => import('./panel').catch(() => ({ default: NotLoaded })));

export class ModelsSidebar extends ReactWidget {
  constructor(readonly surroundings: Surroundings) {
    super();
    this.id = 'mlnb-models';
    this.title.icon = modelsIcon;
    this.title.caption = 'Models';
    this.addClass('mlnb-side');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Models');
    this.node.tabIndex = -1; // so that it has the focus until its content is there
    document.addEventListener('visibilitychange', this.look);
  }

  /** Whether somebody can see it, and a signal that this changed. */
  readonly isSeen = (): boolean => this._seen;
  readonly seenChanged = new Signal<this, void>(this);

  override dispose(): void {
    document.removeEventListener('visibilitychange', this.look);
    super.dispose();
  }

  protected override render(): React.ReactElement | null {
    if (!this._wasSeen) {
      return null;
    }
    return (
      <React.Suspense fallback={null}>
        <Panel sidebar={this} />
      </React.Suspense>
    );
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.look();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.look();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.look();
  }

  protected override onActivateRequest(): void {
    (this.node.querySelector<HTMLElement>('[tabindex="0"], input, button') ?? this.node).focus();
  }

  private readonly look = (): void => {
    const seen = this.isVisible && document.visibilityState === 'visible';
    if (seen && !this._wasSeen) {
      this._wasSeen = true;
      this.update();
    }
    if (seen !== this._seen) {
      this._seen = seen;
      this.seenChanged.emit();
    }
  };

  private _seen = false;
  private _wasSeen = false;
}

function NotLoaded(): React.ReactElement {
  return <p className="mlnb-side-line">The list of models cannot be loaded; reload the page.</p>;
}
