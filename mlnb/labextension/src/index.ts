// What JupyterLab and Notebook 7 load at their start: it adds the sidebar, whose content comes when it is first shown.

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';

import { ModelsSidebar } from './sidebar';

const SHOW = 'mlnb:show-models';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'mlnb:models',
  description: 'Shows the models that notebooks serve in the sidebar.',
  autoStart: true,
  optional: [ILayoutRestorer, ILabShell, INotebookTracker, ICommandPalette],
  activate
};

function activate(
  app: JupyterFrontEnd,
  restorer: ILayoutRestorer | null,
  lab: ILabShell | null,
  notebooks: INotebookTracker | null,
  palette: ICommandPalette | null
): void {
  const sidebar = new ModelsSidebar({ app, notebooks, tabs: lab !== null });
  app.shell.add(sidebar, 'left', { rank: 550, type: 'Models' });
  restorer?.add(sidebar, sidebar.id);
  app.commands.addCommand(SHOW, {
    label: 'Show Models',
    caption: sidebar.title.caption,
    execute: () => app.shell.activateById(sidebar.id)
  });
  palette?.addItem({ command: SHOW, category: 'Models' });
}

export default plugin;
